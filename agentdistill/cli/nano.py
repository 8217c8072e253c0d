"""``agentdistill nano build``."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path

from agentdistill import resources
from agentdistill.config import compose_train
from agentdistill.errors import EXIT_OK, UsageError


def run(arguments: argparse.Namespace) -> int:
    config = compose_train(_words(arguments)).config.env

    from transformers import PreTrainedTokenizerFast

    from agentdistill.nano.build import Builder, Role, recipe_for
    from agentdistill.nano.recipe import RECIPES
    from agentdistill.train.session import env_class_of

    shipped = config.name in RECIPES
    if arguments.out is None and shipped and any((arguments.steps, arguments.demonstrations, arguments.tasks)):
        raise UsageError("a smaller build than the recipe's would replace the shipped models; name a folder of your own with --out DIR")
    env_class = env_class_of(config)
    recipe = recipe_for(env_class, config.entry_point, arguments.seed, steps=arguments.steps, demonstrations=arguments.demonstrations)
    own = Path("models") / config.name
    out = _writable(Path(arguments.out) if arguments.out else resources.nano_dir(config.name, "teacher").parent if shipped else own)
    builder = Builder(
        env_class,
        config,  # type: ignore[arg-type]  # composing validated it with the class's own Config
        recipe,
        out,
        say=lambda text: print(text, flush=True),
        score_tasks=arguments.tasks,
    )
    roles: tuple[Role, ...] = ("teacher", "student")
    if arguments.only in (None, "tokenizer"):
        builder.save_tokenizer(roles)
    for role in roles:
        if arguments.only in (None, role):
            if not (out / role / "tokenizer.json").is_file():  # transformers would take the path for a hub id, and ask the network
                raise UsageError(
                    f"there is no tokenizer in {out / role}; build it first: agentdistill nano build --only tokenizer --out {out}"
                )
            builder.model(role, PreTrainedTokenizerFast.from_pretrained(out / role))
    if arguments.only is None and out != resources.nano_dir(config.name, "teacher").parent:
        print(f"train with them: {shlex.join(_training(arguments, out))}")
    return EXIT_OK


def _training(arguments: argparse.Namespace, out: Path) -> list[str]:
    """The command that goes on with what was built."""
    return ["agentdistill", "train", *_words(arguments), f"student.path={out / 'student'}", f"teacher.path={out / 'teacher'}"]


def _words(arguments: argparse.Namespace) -> list[str]:
    """What to compose: the environment, by option or by word, and its settings."""
    named = any(word.startswith("env=") for word in arguments.overrides)
    words: list[str] = [*([] if named and not arguments.env else [f"env={arguments.env or 'math'}"]), *arguments.overrides]
    for word in words:
        if not word.startswith(("env=", "env.")):
            raise UsageError(f"nano build takes env=NAME and env.key=value, not {word!r}; the rest is in the recipe or an option (--help)")
    return words


def _writable(folder: Path) -> Path:
    """``folder``, made; minutes of training must not end in a folder that cannot be written.

    Raises:
        UsageError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(f"cannot write to {str(folder)!r}: {error.strerror or error}; name another folder with --out DIR") from error
