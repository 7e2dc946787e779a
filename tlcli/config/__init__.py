"""What each command can be told: frozen dataclasses that hold the defaults, and nothing else.

options   what several commands can be told
learning  the commands that make rounds
using     the commands that measure and use them
upkeep    the commands that look after runs and images
"""

from tlcli.config.learning import (
    AdoptConfig,
    ExtendConfig,
    FinetuneConfig,
    MergeConfig,
    MomentsConfig,
    PretrainConfig,
    RemoveConfig,
    RenameConfig,
)
from tlcli.config.options import (
    AUTO,
    ONE_DEVICE,
    WIDEST,
    Columns,
    DataOptions,
    DrawingOptions,
    HeadOptions,
    MemoryOptions,
    Progress,
    ReadingOptions,
    RunsOn,
    StrategyOptions,
    TrainingOptions,
    WatchOptions,
    no_progress,
)
from tlcli.config.upkeep import DivideConfig, PruneConfig, RollbackConfig, SheetConfig
from tlcli.config.using import (
    CompareConfig,
    DuplicatesConfig,
    EvaluateConfig,
    ExportConfig,
    IndexAddConfig,
    IndexRemoveConfig,
    IndexSearchConfig,
    PredictConfig,
    TriageConfig,
)

__all__ = [
    "AUTO",
    "ONE_DEVICE",
    "WIDEST",
    "AdoptConfig",
    "Columns",
    "CompareConfig",
    "DataOptions",
    "DivideConfig",
    "DrawingOptions",
    "DuplicatesConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ExtendConfig",
    "FinetuneConfig",
    "HeadOptions",
    "IndexAddConfig",
    "IndexRemoveConfig",
    "IndexSearchConfig",
    "MemoryOptions",
    "MergeConfig",
    "MomentsConfig",
    "PredictConfig",
    "PretrainConfig",
    "Progress",
    "PruneConfig",
    "ReadingOptions",
    "RemoveConfig",
    "RenameConfig",
    "RollbackConfig",
    "RunsOn",
    "SheetConfig",
    "StrategyOptions",
    "TrainingOptions",
    "TriageConfig",
    "WatchOptions",
    "no_progress",
]
