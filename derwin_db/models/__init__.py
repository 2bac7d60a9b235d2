"""The 14 models, their inputs, enumerations and value types: all that a service imports from here.

One file a table. No queries.
"""

import derwin_db.fields.foreign_keys
import derwin_db.models.descriptions  # noqa: F401  # as before: for what it does
from derwin_db.models.audit_artifact import ArtifactKind, AuditArtifact, AuditArtifactCreate, PruneResult
from derwin_db.models.batch import BatchReport, RowFailure
from derwin_db.models.classification_trust import ClassificationTrust
from derwin_db.models.enums import Bucket, ComplianceMode, DiscoveryRoute, ProjectMode, Severity
from derwin_db.models.ingested_doc import DocSource, DocStatus, IngestedDoc, IngestedDocCreate, IngestedDocUpdate
from derwin_db.models.policy import Policy, PolicyCreate, PolicyThresholds, RiskTierRule
from derwin_db.models.profile_evolution_log import (
    PatchOperation,
    ProfileChange,
    ProfileEvolutionLog,
    ProfileEvolutionLogBrief,
)
from derwin_db.models.project import AdapterSettings, Project, ProjectCreate, ProjectSettings, ProjectType, ProjectUpdate
from derwin_db.models.project_mode_log import ProjectModeLog
from derwin_db.models.project_profile import (
    CriticalFlow,
    DomainOntology,
    OntologyEntity,
    OntologyRelation,
    ProjectProfile,
    ProjectProfileCreate,
    ProjectProfileUpdate,
)
from derwin_db.models.qa_fix_attempt import (
    DiffStat,
    FixOutcome,
    FixStatus,
    QAFixAttempt,
    QAFixAttemptConclusion,
    QAFixAttemptCreate,
)
from derwin_db.models.qa_run import QARun, QARunCreate, RunStats, RunStatus, RunTrigger
from derwin_db.models.qa_ticket import QATicket, QATicketBrief, QATicketCreate, QATicketUpdate, TicketStatus
from derwin_db.models.rag_corpus import Match, RAGCorpus, RAGCorpusBrief, RAGCorpusCreate, RAGCorpusUpdate
from derwin_db.models.raw_signal import IngestResult, RawSignal, RawSignalBrief, RawSignalCreate, SignalStatus
from derwin_db.models.reads import (
    AuditArtifactRead,
    ClassificationTrustRead,
    IngestedDocRead,
    PolicyRead,
    ProfileEvolutionLogRead,
    ProjectModeLogRead,
    ProjectProfileRead,
    ProjectRead,
    QAFixAttemptRead,
    QARunRead,
    QATicketRead,
    RAGCorpusRead,
    RawSignalRead,
    SpendLedgerRead,
)
from derwin_db.models.spend_ledger import SpendCap, SpendKind, SpendLedger, SpendLedgerCreate, SpendSource

__all__ = [
    "AdapterSettings",
    "ArtifactKind",
    "AuditArtifact",
    "AuditArtifactCreate",
    "AuditArtifactRead",
    "BatchReport",
    "Bucket",
    "ClassificationTrust",
    "ClassificationTrustRead",
    "ComplianceMode",
    "CriticalFlow",
    "DiffStat",
    "DiscoveryRoute",
    "DocSource",
    "DocStatus",
    "DomainOntology",
    "FixOutcome",
    "FixStatus",
    "IngestResult",
    "IngestedDoc",
    "IngestedDocCreate",
    "IngestedDocRead",
    "IngestedDocUpdate",
    "Match",
    "OntologyEntity",
    "OntologyRelation",
    "PatchOperation",
    "Policy",
    "PolicyCreate",
    "PolicyRead",
    "PolicyThresholds",
    "ProfileChange",
    "ProfileEvolutionLog",
    "ProfileEvolutionLogBrief",
    "ProfileEvolutionLogRead",
    "Project",
    "ProjectCreate",
    "ProjectMode",
    "ProjectModeLog",
    "ProjectModeLogRead",
    "ProjectProfile",
    "ProjectProfileCreate",
    "ProjectProfileRead",
    "ProjectProfileUpdate",
    "ProjectRead",
    "ProjectSettings",
    "ProjectType",
    "ProjectUpdate",
    "PruneResult",
    "QAFixAttempt",
    "QAFixAttemptConclusion",
    "QAFixAttemptCreate",
    "QAFixAttemptRead",
    "QARun",
    "QARunCreate",
    "QARunRead",
    "QATicket",
    "QATicketBrief",
    "QATicketCreate",
    "QATicketRead",
    "QATicketUpdate",
    "RAGCorpus",
    "RAGCorpusBrief",
    "RAGCorpusCreate",
    "RAGCorpusRead",
    "RAGCorpusUpdate",
    "RawSignal",
    "RawSignalBrief",
    "RawSignalCreate",
    "RawSignalRead",
    "RiskTierRule",
    "RowFailure",
    "RunStats",
    "RunStatus",
    "RunTrigger",
    "Severity",
    "SignalStatus",
    "SpendCap",
    "SpendKind",
    "SpendLedger",
    "SpendLedgerCreate",
    "SpendLedgerRead",
    "SpendSource",
    "TicketStatus",
]
