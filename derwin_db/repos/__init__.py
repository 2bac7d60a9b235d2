"""The 14 repositories, by the names of their tables: `from derwin_db import repos`, then `repos.qa_tickets.list(session)`."""

from derwin_db.repos.audit_artifacts import AuditArtifacts
from derwin_db.repos.classification_trust import ClassificationTrusts
from derwin_db.repos.ingested_docs import IngestedDocs
from derwin_db.repos.policies import Policies
from derwin_db.repos.profile_evolution_logs import ProfileEvolutionLogs
from derwin_db.repos.project_mode_logs import ProjectModeLogs
from derwin_db.repos.project_profiles import ProjectProfiles
from derwin_db.repos.projects import Projects
from derwin_db.repos.qa_fix_attempts import QAFixAttempts
from derwin_db.repos.qa_runs import QARuns
from derwin_db.repos.qa_tickets import QATickets
from derwin_db.repos.rag_corpus import RAGCorpora
from derwin_db.repos.raw_signals import RawSignals
from derwin_db.repos.spend_ledger import SpendLedgers

audit_artifacts: AuditArtifacts = AuditArtifacts()
classification_trust: ClassificationTrusts = ClassificationTrusts()
ingested_docs: IngestedDocs = IngestedDocs()
policies: Policies = Policies()
profile_evolution_logs: ProfileEvolutionLogs = ProfileEvolutionLogs()
project_mode_logs: ProjectModeLogs = ProjectModeLogs()
project_profiles: ProjectProfiles = ProjectProfiles()
projects: Projects = Projects()
qa_fix_attempts: QAFixAttempts = QAFixAttempts()
qa_runs: QARuns = QARuns()
qa_tickets: QATickets = QATickets()
rag_corpus: RAGCorpora = RAGCorpora()
raw_signals: RawSignals = RawSignals()
spend_ledger: SpendLedgers = SpendLedgers()

__all__ = [
    "audit_artifacts",
    "classification_trust",
    "ingested_docs",
    "policies",
    "profile_evolution_logs",
    "project_mode_logs",
    "project_profiles",
    "projects",
    "qa_fix_attempts",
    "qa_runs",
    "qa_tickets",
    "rag_corpus",
    "raw_signals",
    "spend_ledger",
]
