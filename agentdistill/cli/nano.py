"""``agentdistill nano build``."""

from __future__ import annotations

import argparse
from pathlib import Path

from agentdistill import resources
from agentdistill.config import compose_train
from agentdistill.errors import EXIT_OK, UsageError


def run(arguments: argparse.Namespace) -> int:
    from transformers import PreTrainedTokenizerFast

    from agentdistill.nano.build import Builder, Role, recipe_for
    from agentdistill.train.session import env_class_of

    config = compose_train([f"env={arguments.env}"]).config.env
    recipe = recipe_for(arguments.env, arguments.seed)
    out = Path(arguments.out) if arguments.out else resources.nano_dir(arguments.env, "teacher").parent
    builder = Builder(env_class_of(config), config, recipe, out, say=lambda text: print(text, flush=True))  # type: ignore[arg-type]
    if arguments.only in (None, "tokenizer"):
        tokenizer = builder.tokenizer()
        for role in ("teacher", "student"):
            tokenizer.save_pretrained(out / role)
        print(f"tokenizer: {len(tokenizer)} tokens", flush=True)
    roles: tuple[Role, ...] = ("teacher", "student")
    for role in roles:
        if arguments.only in (None, role):
            if not (out / role / "tokenizer.json").is_file():  # transformers would take the path for a hub id, and ask the network
                raise UsageError(
                    f"there is no tokenizer in {out / role}; build it first: agentdistill nano build --only tokenizer --out {out}"
                )
            builder.model(role, PreTrainedTokenizerFast.from_pretrained(out / role))
    return EXIT_OK
