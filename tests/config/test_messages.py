"""Whatever a user gets wrong is answered with one sentence that says what, what is valid and what to do."""

from pathlib import Path

import pytest

from agentdistill.config import compose_train
from agentdistill.config.groups import options
from agentdistill.errors import ConfigError


def told(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose_train(["env=toy", *overrides])
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        # options
        ("env=toyy", "no env 'toyy'; available: {envs}; did you mean 'toy'?"),
        ("env=null", "no env 'null'; available: {envs}"),
        ("env=[1]", "no env '[1]'; available: {envs}"),
        ("learner=loar", "no learner 'loar'; available: full, lora; did you mean 'lora'?"),
        ("env=../env/math", "no env '../env/math'; available: {envs}; did you mean 'math'?"),
        (
            "student=nono",
            "no student 'nono'; available: nano; did you mean 'nano'? (or the directory of a model, or a hub id like org/name)",
        ),
        ("student=/no/such/dir", "no student '/no/such/dir'; available: nano (or the directory of a model, or a hub id like org/name)"),
        ("teacher.plugin=logprop", "no teacher plug-in 'logprop'; available: logprob; did you mean 'logprob'?"),
        ("method.plugin=objektive", "no method plug-in 'objektive'; available: objective, toymethod; did you mean 'objective'?"),
        # keys
        ("lr=1", "no key 'lr'; did you mean 'learner.lr'?"),
        ("learner.lrr=1", "no key 'learner.lrr'; did you mean 'learner.lr'?"),
        ("lerner.lr=1", "no key 'lerner'; did you mean 'learner'?"),
        ("rollout.max_turns=3", "no key 'rollout.max_turns'; did you mean 'env.max_turns'?"),
        ("learner.tasks=3", "no key 'learner.tasks'; did you mean 'env.tasks' or 'eval.tasks'?"),
        ("temperatur=3", "no key 'temperatur'; did you mean 'rollout.temperature'?"),
        ("env.nested.levle=1", "no key 'env.nested.levle'; did you mean 'env.nested.level'?"),
        ("learner.lora.rnk=8", "no key 'learner.lora.rnk'; did you mean 'learner.lora.rank'?"),
        (
            "method.terms.teachr.weight=2",
            "no key 'method.terms.teachr'; did you mean 'method.terms.teacher'? (a new one needs method.terms.teachr.kind=<kind>)",
        ),
        ("eval.zzz=1", "no key 'eval.zzz'; eval has: split, tasks, every, progress_split, progress_tasks"),
        # values
        ("steps=ten", "steps='ten' is not valid: it should be a valid integer"),
        ("steps=2.5", "steps=2.5 is not valid: it should be a valid integer, got a number with a fractional part"),
        ("steps=0", "steps=0 is not valid: it should be greater than or equal to 1"),
        ("steps=yes", "steps=true is not valid: it should be a number"),
        ("seed=", "seed=null is not valid: it should be a valid integer"),
        ("seed.x=1", "seed={'x': 1} is not valid: it should be a valid integer"),
        ("learner.lr=-1", "learner.lr=-1 is not valid: it should be greater than 0"),
        ("env.max_turns=x", "env.max_turns='x' is not valid: it should be a valid integer"),
        ("learner.betas=[1,2,3]", "learner.betas=[1, 2, 3] is not valid: tuple should have at most 2 items after validation, not 3"),
        ("learner.betas=[a,0.9]", "learner.betas[0]='a' is not valid: it should be a valid number"),
        ("learner.betas=[0.9,2]", "learner.betas[1]=2 is not valid: it should be less than 1"),
        ("student=", "student= names nothing; options are nano"),
        ("learner.lr=inf", "learner.lr='inf' is not valid: it should be a finite number"),
        ("rollout.temperature=.nan", "rollout.temperature=nan is not valid: it should be a finite number"),
        ("learner.threads=1000000", "learner.threads=1000000 is not valid: it should be less than or equal to 1024"),
        (
            "learner.device=cudaa",
            "learner.device='cudaa' is not valid: it should be 'auto', 'cpu', 'cuda' or 'mps'; did you mean 'cuda'?",
        ),
        ("eval=5", "eval=5 is not valid: it is a section; set its fields one by one"),
        ("env.by_name=5", "env.by_name=5 is not valid: it is a section; set its fields one by one"),
        ("env.by_name.a=x", "env.by_name.a='x' is not valid: it should be a valid integer"),
        ("method.terms.teacher.weight=abc", "method.terms.teacher.weight='abc' is not valid: it should be a valid number"),
        (
            "method.terms.teacher.weight={start: 1, end: 2}",
            "method.terms.teacher.weight.steps is missing; set it, for instance with method.terms.teacher.weight.steps=<value>",
        ),
        (
            "method.terms.teacher.kind=divergens",
            "method.terms.teacher.kind='divergens' is not valid: it should be one of 'divergence', 'policy_gradient', 'supervised', "
            "'kl_estimate'; did you mean 'divergence'?",
        ),
        ("method.terms.new={weight: 1}", "method.terms.new.kind is missing; it says which kind of entry this is"),
        (
            "method.terms.kl={kind: kl_estimate}",
            "method.terms.kl.against is missing; set it, for instance with method.terms.kl.against=<value>",
        ),
        (
            "learner.lora.target_modules={a: 3}",
            "learner.lora.target_modules={'a': 3} is not valid: it should be a valid string or a valid tuple",
        ),
        ("method.sampler.student=.5", "method.sampler: the shares of student, expert and teacher sum to 0.5, not 1"),
        # words
        ("learner.lr", "'learner.lr' is not an override; write key=value, for instance learner.lr=1e-3, or group=option"),
        ("=3", "'=3' has no valid key before the '='; keys are names joined by dots, for instance learner.lr=1e-3"),
        ("+steps=3", "'+steps=3' has no valid key before the '='; keys are names joined by dots, for instance learner.lr=1e-3"),
        ("a..b=3", "'a..b=3' has no valid key before the '='; keys are names joined by dots, for instance learner.lr=1e-3"),
        ("learner.betas[0]=3", "'learner.betas[0]=3' sets one entry of a list; set the whole list: learner.betas=[...]"),
        ("learner.betas=[1", "the value of learner.betas=[1 is not valid YAML: did not find expected ',' or ']'"),
        ("run=${seed}", "run=${seed}: '${...}' is not replaced by anything here; write the value itself"),
    ],
)
def test_one_mistake_is_one_sentence(override: str, sentence: str) -> None:
    assert told(override) == sentence.replace("{envs}", ", ".join(options("env")))


def test_a_misspelt_field_of_a_term_is_suggested_from_its_own_kind() -> None:
    assert told("method=opd_sampled", "method.terms.teacher.ppo_cli=3") == (
        "no key 'method.terms.teacher.ppo_cli'; did you mean 'method.terms.teacher.ppo_clip'?"
    )
    assert told("method=opd_sampled", "teacher_clip=3") == "no key 'teacher_clip'; did you mean 'method.terms.teacher.teacher_clip'?"


def test_a_long_value_is_shown_in_part() -> None:
    sentence = told(f"steps={'x' * 500}")
    assert len(sentence) < 200
    assert "xxx… is not valid" in sentence


def test_every_mistake_of_one_command_is_told_at_once() -> None:
    lines = told("env.max_turns=x", "steps=ten", "lr=3").split("\n")
    assert len(lines) == 3
    assert lines[0].startswith("env.max_turns='x'")


def test_a_check_across_sections_is_told_only_where_the_sections_are_sound() -> None:
    assert told("method.group_size=3") == "rollout.batch=128 is not a multiple of method.group_size=3"
    assert "multiple" not in told("method.group_size=3", "method.titel=x")


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lr: fast\nlora: {rnk: 3}\n")
    value, key = told(f"learner={path}").split("\n")
    assert value == f"learner.lr='fast' is not valid: it should be a valid number (from {path})"
    assert key == f"no key 'learner.lora.rnk' (from {path}); did you mean 'learner.lora.rank'?"


def test_a_base_that_chooses_no_environment_and_no_plugin_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("env: {}\n")
    with pytest.raises(ConfigError, match=r"no env is chosen; add env=<option>"):
        compose_train([], base=tmp_path / "config.yaml")
