"""The model card of an export: README.md with YAML front matter, as https://huggingface.co/docs/hub/model-cards has it.

p is the teacher, q the student, y the sampled token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentdistill.config.schema import TrainConfig
from agentdistill.methods.describe import number, term_formula


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Success on held-out tasks at one moment. ``None``: not measured."""

    when: str
    split: str
    tasks: int
    greedy: float | None
    sampled: float | None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run did to the model."""

    run: str
    config: TrainConfig
    teacher: str | None
    """Its path or name. ``None``: the method hears none."""
    step: int
    figures: Mapping[str, str]
    """Of the training, by name."""
    tasks: Mapping[str, str]
    """What is known of each split."""
    measured: Sequence[Measured]
    command: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is told of an exported model."""

    student: str
    """The model that it is made of."""
    what: str
    """``student``, ``adapter`` or ``merged``."""
    versions: Mapping[str, str]
    trained: Trained | None = None
    """``None``: it was only brought into another form."""
    notes: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        """The whole page."""
        trained = self.trained
        title = "Checkpoint"
        if trained is not None:
            title = f"{trained.config.method.title or trained.config.method.name} on {trained.config.env.name}"
        sections = [self._front_matter(), f"# {title}", _section("Student", self._student())]
        if trained is not None:
            sections += [_teacher(trained), _method(trained), _environment(trained), _training(trained), _evaluation(trained)]
        sections += [_section("Loading", self._loading())]
        if trained is not None:
            sections.append(_section("Command", f"```sh\n{trained.command}\n```"))
        sections.append(_section("Versions", _table(("package", "version"), list(self.versions.items()))))
        sections.append(_section("Licence", self._licence()))
        return "\n\n".join(sections) + "\n"

    def _front_matter(self) -> str:
        library = "peft" if self.what == "adapter" else "transformers"
        tags = ["agentdistill"]
        if self.trained is not None:
            config = self.trained.config
            tags += ["on-policy-distillation", f"method:{config.method.name}", f"env:{config.env.name}"]
        lines = ["pipeline_tag: text-generation", f"library_name: {library}", f"tags: {json.dumps(tags)}", "license: other"]
        if _is_hub_id(self.student):
            lines.append(f"base_model: {json.dumps(self.student)}")
        return "\n".join(["---", *lines, "---"])

    def _student(self) -> str:
        form = {
            "adapter": f"Low-rank adapters for `{self.student}`.",
            "merged": f"`{self.student}` with its trained low-rank adapters merged into the weights.",
            "student": f"`{self.student}`, trained in full." if self.trained else f"`{self.student}` in Hugging Face form.",
        }[self.what]
        return "\n\n".join([form, *self.notes])

    def _loading(self) -> str:
        if self.what == "adapter":
            return (
                "```python\nfrom peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
                'model = AutoPeftModelForCausalLM.from_pretrained("DIR")\ntokenizer = AutoTokenizer.from_pretrained("DIR")\n```'
            )
        env = self.trained.config.env.name if self.trained else "math"
        return (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("DIR")\ntokenizer = AutoTokenizer.from_pretrained("DIR")\n```\n\n'
            f"Measured again by `agentdistill eval env={env} student.path=DIR`."
        )

    def _licence(self) -> str:
        teacher = None if self.trained is None else self.trained.teacher
        also = "" if teacher in (None, "self") else f" and, through distillation, those of its teacher (`{teacher}`)"
        return f"The weights derive from `{self.student}`: its terms apply{also}. Set `license` above accordingly before publishing."


def _method(trained: Trained) -> str:
    method = trained.config.method
    terms = [(name, number(term.weight), term_formula(term), term.normaliser) for name, term in method.terms.items()]
    name = f"`{method.name}`: {method.title}. {method.paper}".strip()
    return _section("Method", f"{name}\n\n{_table(('term', 'weight', 'per token', 'mean over'), terms)}")


def _environment(trained: Trained) -> str:
    return _section("Environment", f"`{trained.config.env.name}`\n\n" + _table(("split", "tasks"), list(trained.tasks.items())))


def _training(trained: Trained) -> str:
    rows = [("run", trained.run), ("steps", str(trained.step)), ("seed", str(trained.config.seed)), *trained.figures.items()]
    return _section("Training", _table(("figure", "value"), rows))


def _evaluation(trained: Trained) -> str:
    rows = [(each.when, each.split, str(each.tasks), _share(each.greedy), _share(each.sampled)) for each in trained.measured]
    text = _table(("moment", "split", "n", "greedy", "sampled"), rows) if rows else "Not measured."
    return _section("Evaluation", f"Share of held-out tasks that are solved, greedily and at temperature 1.\n\n{text}")


def _teacher(trained: Trained) -> str:
    if trained.teacher is None:
        return _section("Teacher", "None: the method hears none.")
    if trained.teacher == "self":
        view = getattr(trained.config.teacher, "view", "none")
        return _section("Teacher", f"The student itself as it began, told the view `{view}`.")
    return _section("Teacher", f"`{trained.teacher}`")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _is_hub_id(path: str) -> bool:
    return path.count("/") == 1 and not path.startswith(("/", ".", "~"))
