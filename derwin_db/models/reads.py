"""Read models: `QATicketRead` is a ticket as plain Pydantic, to derive a response from and to read JSON back with.

class TicketWithAge(QATicketRead):
age_days: int

TicketWithAge.model_validate({**row.model_dump(), "age_days": 3})
QATicketRead.model_validate_json(text)
"""

from typing import TYPE_CHECKING

from derwin_db.fields.reading import read_model
from derwin_db.models.audit_artifact import AuditArtifact
from derwin_db.models.classification_trust import ClassificationTrust
from derwin_db.models.ingested_doc import IngestedDoc
from derwin_db.models.policy import Policy
from derwin_db.models.profile_evolution_log import ProfileEvolutionLog
from derwin_db.models.project import Project
from derwin_db.models.project_mode_log import ProjectModeLog
from derwin_db.models.project_profile import ProjectProfile
from derwin_db.models.qa_fix_attempt import QAFixAttempt
from derwin_db.models.qa_run import QARun
from derwin_db.models.qa_ticket import QATicket
from derwin_db.models.rag_corpus import RAGCorpus
from derwin_db.models.raw_signal import RawSignal
from derwin_db.models.spend_ledger import SpendLedger

if TYPE_CHECKING:  # the same fields: a type checker sees them through the table's class
    AuditArtifactRead = AuditArtifact
    ClassificationTrustRead = ClassificationTrust
    IngestedDocRead = IngestedDoc
    PolicyRead = Policy
    ProfileEvolutionLogRead = ProfileEvolutionLog
    ProjectModeLogRead = ProjectModeLog
    ProjectProfileRead = ProjectProfile
    ProjectRead = Project
    QAFixAttemptRead = QAFixAttempt
    QARunRead = QARun
    QATicketRead = QATicket
    RAGCorpusRead = RAGCorpus
    RawSignalRead = RawSignal
    SpendLedgerRead = SpendLedger
else:
    AuditArtifactRead = read_model(AuditArtifact)
    ClassificationTrustRead = read_model(ClassificationTrust)
    IngestedDocRead = read_model(IngestedDoc)
    PolicyRead = read_model(Policy)
    ProfileEvolutionLogRead = read_model(ProfileEvolutionLog)
    ProjectModeLogRead = read_model(ProjectModeLog)
    ProjectProfileRead = read_model(ProjectProfile)
    ProjectRead = read_model(Project)
    QAFixAttemptRead = read_model(QAFixAttempt)
    QARunRead = read_model(QARun)
    QATicketRead = read_model(QATicket)
    RAGCorpusRead = read_model(RAGCorpus)
    RawSignalRead = read_model(RawSignal)
    SpendLedgerRead = read_model(SpendLedger)
