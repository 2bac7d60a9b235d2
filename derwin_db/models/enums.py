"""Enumerations that several tables share. One that belongs to a single table lives in that table's file in `models/`."""

from enum import StrEnum


class ProjectMode(StrEnum):
    """How much the platform may do, from least to most: only look, write tickets, write fixes for review, merge by itself."""

    OBSERVE = "OBSERVE"
    TRIAGE = "TRIAGE"
    AUTHOR = "AUTHOR"
    AUTONOMOUS = "AUTONOMOUS"


class ComplianceMode(StrEnum):
    """Which rule decides how long evidence is kept."""

    STANDARD = "STANDARD"
    GDPR = "GDPR"
    SOC2 = "SOC2"
    PCI_DSS = "PCI_DSS"
    HIPAA = "HIPAA"
    SOX = "SOX"


class DiscoveryRoute(StrEnum):
    """How a signal was found."""

    E2E_CRAWL = "E2E_CRAWL"
    API_CONTRACT = "API_CONTRACT"
    STATIC_ANALYSIS = "STATIC_ANALYSIS"
    LOG_MINING = "LOG_MINING"
    ACCESSIBILITY = "ACCESSIBILITY"
    VISUAL_DIFF = "VISUAL_DIFF"
    PERFORMANCE = "PERFORMANCE"
    DATA_INTEGRITY = "DATA_INTEGRITY"
    ADAPTER = "ADAPTER"


class Severity(StrEnum):
    """How bad a finding is."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class Bucket(StrEnum):
    """Who or what takes care of a ticket."""

    AUTO_FIX = "AUTO_FIX"
    ASSISTED_FIX = "ASSISTED_FIX"
    HUMAN_ONLY = "HUMAN_ONLY"
    NEEDS_INFO = "NEEDS_INFO"
    NOISE = "NOISE"
