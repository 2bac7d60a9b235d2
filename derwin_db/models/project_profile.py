"""ProjectProfile: what the platform knows of a product, and the shapes of that knowledge."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator
from sqlmodel import Field

from derwin_db.fields.columns import unset, with_default
from derwin_db.fields.json import check_json_size
from derwin_db.fields.scalars import Count, LongText, Score, ShortText
from derwin_db.fields.table import (
    SCHEMA,
    Changing,
    Fields,
    Input,
    JsonModel,
    ProjectTable,
    PydanticJson,
    owned_by_project,
    paged,
    primary_key,
    unique,
)


class OntologyEntity(JsonModel):
    """A thing the product is about, and what is known of each."""

    name: ShortText
    attributes: list[ShortText] = []


class OntologyRelation(JsonModel):
    """`source` and `target` name entities: `Invoice contains Line`."""

    source: ShortText
    name: ShortText
    target: ShortText


class DomainOntology(JsonModel):
    """The product's things, how they relate, and what always holds."""

    entities: list[OntologyEntity] = []
    relations: list[OntologyRelation] = []
    invariants: list[ShortText] = []


class CriticalFlow(JsonModel):
    """A path through the product that must not break. `risk` is 0..1."""

    name: ShortText
    steps: list[ShortText]
    risk: Score
    owner: ShortText | None = None


OntologyJson = Annotated[DomainOntology, AfterValidator(check_json_size), Field(sa_type=PydanticJson(DomainOntology))]
WeightsJson = Annotated[dict[ShortText, Score], AfterValidator(check_json_size), Field(sa_type=PydanticJson(dict[str, float]))]
FlowsJson = Annotated[list[CriticalFlow], AfterValidator(check_json_size), Field(sa_type=PydanticJson(list[CriticalFlow]))]
GlossaryJson = Annotated[
    dict[ShortText, LongText], AfterValidator(check_json_size), Field(sa_type=PydanticJson(dict[str, str]))
]


class ProjectProfileFields(Fields):
    """The knowledge itself: what `evolve` changes and the evolution log replays."""

    summary: LongText
    domain_ontology: OntologyJson
    risk_weights: WeightsJson
    critical_flows: FlowsJson
    glossary: GlossaryJson


class ProjectProfileCreate(ProjectProfileFields, Input):
    """Input of `repos.project_profiles.create`."""


class ProjectProfileUpdate(Input):
    """Input of `repos.project_profiles.evolve`: the fields that change, each as a whole."""

    summary: LongText = unset()
    domain_ontology: OntologyJson = unset()
    risk_weights: WeightsJson = unset()
    critical_flows: FlowsJson = unset()
    glossary: GlossaryJson = unset()


class ProjectProfile(Changing, ProjectProfileFields, ProjectTable, table=True):
    """The project's profile at its newest version.

    There is one in a project. Written by `create`, `evolve` and `roll_back`, each with an entry in the evolution log; goes
    with its project.
    """

    __tablename__: ClassVar[str] = "project_profiles"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("project_profiles"),
        owned_by_project("project_profiles"),
        unique("project_profiles"),
        paged("project_profiles"),
        {"schema": SCHEMA},
    )

    version: int = with_default(Count, default=1, server_default="1")
