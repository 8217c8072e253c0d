"""A run on disk: episodes, feedback and annotations; metrics; checkpoints; the report."""

from agentdistill.store._disk import replace_text
from agentdistill.store._lock import RunLock
from agentdistill.store._names import list_runs, require_name
from agentdistill.store.checkpoints import Checkpoint, list_checkpoints, load_checkpoint, newest_checkpoint, sweep, write_checkpoint
from agentdistill.store.episodes import EpisodeStore
from agentdistill.store.heads import EpisodeHead, Where
from agentdistill.store.report import write_report
from agentdistill.store.run import Run
from agentdistill.store.transcript import transcript

__all__ = [
    "Checkpoint",
    "EpisodeHead",
    "EpisodeStore",
    "Run",
    "RunLock",
    "Where",
    "list_checkpoints",
    "list_runs",
    "load_checkpoint",
    "newest_checkpoint",
    "replace_text",
    "require_name",
    "sweep",
    "transcript",
    "write_checkpoint",
    "write_report",
]
