"""``agentdistill``: parse, find the command, translate errors into one sentence and an exit code.

Commands live in modules of their own that are imported when they are called, so ``--help`` stays fast.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from agentdistill import __version__
from agentdistill.cli.output import patient_output
from agentdistill.errors import EXIT_INTERRUPTED, EXIT_OK, AgentDistillError

EXIT_FAILED = 1

EPILOG = """\
exit codes: 0 ok, 1 any other failure, 2 usage or configuration, 3 plug-in failed to load,
4 teacher unavailable (resumable), 5 numerics stopped the run (resumable), 6 sandbox unavailable,
7 store or checkpoint corrupt, 130 and 143 interrupted (resumable). AGENTDISTILL_DEBUG=1 shows tracebacks."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

OVERRIDES = "group=option picks a configuration (env=math method=gkd), a.b=value sets a field (learner.lr=1e-3); later ones win"


def parser() -> argparse.ArgumentParser:
    """The whole grammar."""
    top = argparse.ArgumentParser(
        prog="agentdistill",
        description="Teach small language models to be agents, from their own episodes and a teacher's feedback.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"agentdistill {__version__}")
    commands = top.add_subparsers(dest="command", metavar="command", required=True)
    for add in (_add_train_and_eval, _add_compare, _add_export, _add_env_and_method, _add_task, _add_episode, _add_nano):
        add(commands)
    return top


def _add_train_and_eval(commands: Commands) -> None:
    """What makes and measures a run."""
    train = commands.add_parser("train", help="distil a student: play, review, update", description="Distil a student.")
    train.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)
    train.add_argument("--dry-run", action="store_true", help="check everything, print the plan, train nothing")
    train.add_argument("--print-config", action="store_true", help="print each value and where it comes from, and stop")
    train.add_argument("-m", "--multirun", action="store_true", help="key=a,b,c runs every combination, one after the other")
    train.set_defaults(module="train")

    evaluate = commands.add_parser("eval", help="success of a run or a student on held-out tasks", description="Evaluate a student.")
    evaluate.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES + "; run=NAME takes a run's newest checkpoint")
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    evaluate.add_argument("--print-config", action="store_true", help="print each value and where it comes from, and stop")
    evaluate.set_defaults(module="evaluate")


def _add_compare(commands: Commands) -> None:
    """Several runs under one protocol."""
    compare = commands.add_parser(
        "compare",
        help="methods side by side under one protocol",
        description="Compare methods: tune each arm's learning rate on one seed, then run the reported seeds at equal budgets of training "
        "tokens. The same command goes on with a comparison that was stopped. `compare show NAME` prints the table again.",
    )
    compare.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="method=opd,grpo env=math34,math4: what is compared, every combination is an arm; lr=3e-4,6e-4: the grid, lr.grpo=1e-4,3e-4 "
        "that of the arms with this option; name= seeds= tuning_seed= budget= tuning_budget= every= tasks= plays= samples= target= "
        "criterion= split= tuning_split= steps=: the protocol; jobs=2: runs at the same time; anything else goes to train, for all arms",
    )
    compare.add_argument("--dry-run", action="store_true", help="check everything, print the plan, train nothing")
    compare.set_defaults(module="compare")


def _add_export(commands: Commands) -> None:
    """What leaves the house."""
    export = commands.add_parser("export", help="a run's student, or any model, in Hugging Face form", description="Export a student.")
    export.add_argument(
        "overrides", nargs="*", metavar="key=value", help="run=NAME and runs_dir=, or student.path=PATH (for nano models also env=NAME)"
    )
    export.add_argument("--to", metavar="DIR", help="default: exports/<step>-<what> in the run's folder")
    export.add_argument(
        "--what",
        choices=("student", "adapter", "merged"),
        help="the model of a run that trained in full; the adapters of a LoRA run; or these merged into their base. "
        "default: the whole model",
    )
    export.add_argument("--step", type=_whole(0), metavar="N", help="training steps of the checkpoint; default: the newest one")
    export.add_argument("--force", action="store_true", help="replace an exported model that is there")
    export.set_defaults(module="export")


def _add_env_and_method(commands: Commands) -> None:
    """What is installed."""
    env = commands.add_parser("env", help="environments: list, check, new").add_subparsers(dest="action", metavar="action", required=True)
    env_list = env.add_parser("list", help="every installed environment, and what is wrong with broken ones")
    env_check = env.add_parser("check", help="run the environment contract")
    env_check.add_argument("name", metavar="NAME")
    env_check.add_argument("overrides", nargs="*", metavar="env.key=value", help="settings of the environment")
    env_new = env.add_parser("new", help="write a package with an environment of your own, ready to install, check and train on")
    env_new.add_argument("name", metavar="NAME", help="what env=NAME will be: letters, digits and dashes, such as box-trail")
    env_new.add_argument("--out", metavar="DIR", help="the folder to make; default: NAME in this one")
    method = commands.add_parser("method", help="methods: list, show").add_subparsers(dest="action", metavar="action", required=True)
    method_list = method.add_parser("list", help="every method, by what it reads from whom")
    method_list.add_argument("--markdown", action="store_true", help="print the table of the docs")
    method_show = method.add_parser("show", help="a method's formula, what it needs, and its configuration")
    method_show.add_argument("name", metavar="NAME")
    env_new.set_defaults(module="env_new")
    for each, module in ((env_list, "env"), (env_check, "env"), (method_list, "method"), (method_show, "method")):
        each.add_argument("--json", action="store_true", help="print JSON")
        each.set_defaults(module=module)


def _add_task(commands: Commands) -> None:
    """What is asked."""
    task = commands.add_parser("task", help="tasks: list, show").add_subparsers(dest="action", metavar="action", required=True)
    task_list = task.add_parser("list", help="the first tasks of a split")
    task_show = task.add_parser("show", help="one task, with what is hidden from the student")
    task_show.add_argument("id", metavar="ID")
    task_show.add_argument("--graph", action="store_true", help="draw how it hangs together")
    words = "env=NAME and env.key=value as in train; split=train|val|test"
    for each, more in ((task_list, ", limit=N"), (task_show, "; default: wherever it is found")):
        each.add_argument("overrides", nargs="*", metavar="key=value", help=words + more)
        each.add_argument("--json", action="store_true", help="print JSON")
        each.set_defaults(module="task")


def _add_episode(commands: Commands) -> None:
    """What a run has stored."""
    episode = commands.add_parser("episode", help="episodes of a run: list, show").add_subparsers(
        dest="action", metavar="action", required=True
    )
    episode_list = episode.add_parser("list", help="the newest episodes of a run")
    episode_list.add_argument(
        "filters", nargs="*", metavar="key=value", help="kind=, status=, success=true|false, step=, limit=, run=, runs_dir="
    )
    episode_show = episode.add_parser("show", help="one episode as text")
    episode_show.add_argument("id", metavar="ID")
    episode_show.add_argument("filters", nargs="*", metavar="key=value", help="run=, runs_dir=")
    for each in (episode_list, episode_show):
        each.add_argument("--run", metavar="NAME", help="the same as run=NAME; default: the newest run")
        each.add_argument("--runs-dir", default="runs", metavar="DIR", help="the same as runs_dir=DIR")
        each.add_argument("--json", action="store_true", help="print JSON")
        each.set_defaults(module="episode")


def _add_nano(commands: Commands) -> None:
    """The embedded models."""
    nano = commands.add_parser("nano", help="the embedded models: build").add_subparsers(dest="action", metavar="action", required=True)
    nano_build = nano.add_parser("build", help="make tokenizer, teacher and student of an environment, from its own expert")
    nano_build.add_argument(
        "overrides", nargs="*", metavar="env=NAME", help="the environment (default: math); env.key=value sets its fields"
    )
    nano_build.add_argument("--env", metavar="NAME", help="the same as env=NAME")
    nano_build.add_argument(
        "--out", metavar="DIR", help="default: models/NAME; for an environment of ours, where the shipped ones are, which are replaced"
    )
    nano_build.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="default: 0, which the shipped ones have")
    nano_build.add_argument("--only", choices=("tokenizer", "teacher", "student"), help="build one part")
    for word, what in (
        ("--steps", "training steps of each model"),
        ("--demonstrations", "demonstrations of each kind"),
        ("--tasks", "held-out tasks of each split for the score card"),
    ):
        nano_build.add_argument(word, type=_whole(1), metavar="N", help=f"{what}, for a quick build; default: as the shipped ones have it")
    nano_build.set_defaults(module="nano")


def _whole(least: int) -> Callable[[str], int]:
    """The type of an option: whole numbers from ``least``."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least}")
        return int(text)

    return convert


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Like ``parse_args``, but positionals may stand between options."""
    grammar = parser()
    known, rest = grammar.parse_known_args(argv)
    options = [word for word in rest if word.startswith("-")]
    field = next((name for name in ("overrides", "filters") if hasattr(known, name)), None)
    if options or (rest and field is None):
        grammar.error(f"unrecognized arguments: {' '.join(options or rest)}")
    if field is not None:
        setattr(known, field, [*getattr(known, field), *rest])
    return known


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Spinning OpenMP threads were measured ten times slower on a loaded machine; both take effect only before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with patient_output() as output:
        try:
            arguments = parse(sys.argv[1:] if argv is None else argv)
        except SystemExit as stop:  # argparse has said why
            code = stop.code if isinstance(stop.code, int) else EXIT_OK
        else:
            code = _run(arguments)
        sys.stdout.flush()
        if output.lost is not None:
            _complain(f"standard output could not be written: {output.lost}")
            code = code or EXIT_FAILED
    return code


def _run(arguments: argparse.Namespace) -> int:
    """The command's exit code; whatever it raises on purpose, or the system in its way, is one sentence."""
    debug = bool(os.environ.get("AGENTDISTILL_DEBUG"))
    try:
        module = importlib.import_module(f"agentdistill.cli.{arguments.module}")
        code = module.run(arguments)
        return EXIT_OK if code is None else int(code)
    except AgentDistillError as error:
        if debug:
            raise
        _complain(str(error))
        return error.exit_code
    except OSError as error:
        if debug:
            raise
        _complain(_in_words(error))
        return EXIT_FAILED
    except SystemExit as stop:
        if debug:
            raise
        _complain(f"a plug-in tried to end the process (SystemExit: {stop.code}); AGENTDISTILL_DEBUG=1 shows where")
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("agentdistill: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _complain(sentence: str) -> None:
    print(f"agentdistill: error: {sentence}", file=sys.stderr)


def _in_words(error: OSError) -> str:
    """The system's own words, with the file that they are about where they name one."""
    what = error.strerror or str(error) or type(error).__name__
    about = "" if error.filename is None else f": {str(error.filename)!r}"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{what}{about}{'; free some space; a run that had begun goes on with run=NAME resume=true' if full else ''}"
