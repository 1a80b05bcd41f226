"""What goes into the publishing process and what comes out of it."""

from dataclasses import dataclass, field

import msgspec

from exporter.model.errors import ToldError
from exporter.model.freshness import Freshness
from exporter.model.manifest import Drift
from exporter.model.options import TableOptions
from exporter.model.records import PartFile

#: What the parent says when nothing more will be settled.
OVER = b"over\n"


@dataclass(frozen=True, kw_only=True)
class PublishJob(TableOptions):
    """What one publish is asked to do, with the options of the tables; a workbook says `about`, by label."""

    store: str
    plan: str
    staged: str
    freshness: Freshness
    about: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishProgress:
    """How far a publish is: `lines` counts order numbers of the plan that are through, rejects included."""

    lines: int
    drift: Drift


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """What is in the staged folder: `exported` orders, and the part files of each table over all formats.

    Orders counted in `stale_by_reason` could not be had, and are in the tables as they were last had.
    """

    exported: int
    order_items: int
    rejects_by_reason: dict[str, int]
    files: dict[str, list[PartFile]]
    drift: Drift
    stale_by_reason: dict[str, int] = field(default_factory=dict)


class Message(msgspec.Struct, omit_defaults=True):
    """One line from the publishing process; exactly one of the fields is set, and the last two end it."""

    progress: PublishProgress | None = None
    result: PublishResult | None = None
    error: ToldError | None = None
