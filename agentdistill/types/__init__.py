"""The records that travel through the loop, from a task to a training row.

    Task ──reset──> Turn* ──────────> Episode ──review──> Feedback
                     │                  │ siblings           │
                     │                  v                    v
                     └ Completion   EpisodeGroup ──credit──> Sample* ──pack──> loss

Three rules hold everywhere:

* a token that is trained on is a token that was sampled: ids come from the record and are never made again from text;
* ``None`` means *not known* or *not reviewed*; it is never zero;
* arrays that run in parallel have equal lengths, and a mismatch names both lengths and the episode.

All records are frozen and reject unknown fields. Everything but :class:`Sample`, which holds numpy arrays, is a pydantic model and
turns into JSON with ``model_dump(mode="json")``.
"""

from __future__ import annotations

from agentdistill.types.base import (
    AUTHORS,
    NO_AUTHOR,
    SCHEMA_VERSION,
    Author,
    BoolArray,
    FloatArray,
    IntArray,
    ModelPath,
    NameOrPath,
    PluginConfig,
    Record,
    require_length,
)
from agentdistill.types.episodes import (
    AuthorSpan,
    Completion,
    Episode,
    EpisodeGroup,
    Failure,
    Fork,
    Sampling,
    Status,
    StopReason,
    Timing,
    Turn,
    Views,
)
from agentdistill.types.feedback import Access, Cost, Feedback, TopK, TrajectoryFeedback, TurnFeedback
from agentdistill.types.messages import Message, ToolCall, ToolResult, ToolSpec
from agentdistill.types.samples import Annotation, Sample, turn_ranges
from agentdistill.types.tasks import Limits, Task

__all__ = [
    "AUTHORS",
    "NO_AUTHOR",
    "SCHEMA_VERSION",
    "Access",
    "Annotation",
    "Author",
    "AuthorSpan",
    "BoolArray",
    "Completion",
    "Cost",
    "Episode",
    "EpisodeGroup",
    "Failure",
    "Feedback",
    "FloatArray",
    "Fork",
    "IntArray",
    "Limits",
    "Message",
    "ModelPath",
    "NameOrPath",
    "PluginConfig",
    "Record",
    "Sample",
    "Sampling",
    "Status",
    "StopReason",
    "Task",
    "Timing",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "TopK",
    "TrajectoryFeedback",
    "Turn",
    "TurnFeedback",
    "Views",
    "require_length",
    "turn_ranges",
]
