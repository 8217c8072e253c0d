"""The face of agentdistill.env: what an author of environments may rely on."""

import agentdistill.env


def test_these_names_and_no_others_are_exported() -> None:
    assert set(agentdistill.env.__all__) == {
        "SPLITS",
        "AgentEnv",
        "AgentWrapper",
        "EnvConfig",
        "Expert",
        "MessageSpace",
        "Observation",
        "Reply",
        "ToolEnv",
        "ToolError",
        "TurnCost",
        "check_env",
        "gymnasium_id",
        "mirror_environments",
        "tool",
    }
    assert all(hasattr(agentdistill.env, name) for name in agentdistill.env.__all__)
