"""The parameters of the endpoints that take pictures."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from embedder.text import normal_form
from service.http import openapi_examples as examples
from service.inference.tasks import Options, Together

MOST_LANDMARKS = 100
MOST_ALLOWED = 1000

Id = Annotated[str, AfterValidator(normal_form)]
"""The id of a picture or a landmark, in the form that galleries have it, however it is sent."""


class _Pictures(BaseModel):
    """What the query is: the body, several pictures of it together, or one of the gallery."""

    picture: Id | None = Field(
        default=None,
        description="id of a picture of the gallery, in place of a body; it does not find itself",
        examples=[examples.PICTURE],
    )
    together: Together | None = Field(
        default=None,
        description="several pictures of one thing, by the mean of their vectors or by the "
        "largest similarity to any of them",
        examples=["mean"],
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.picture is not None and self.together is not None:
            raise ValueError("picture and together exclude each other")
        return self


class _Extent(BaseModel):
    """What an answer has, and what it may be."""

    k: int | None = Field(
        default=None, ge=0, le=100, description="neighbors to return", examples=[5]
    )
    landmarks: int | None = Field(
        default=None,
        ge=1,
        le=MOST_LANDMARKS,
        description="distinct landmarks to return, each with its nearest picture",
        examples=[3],
    )
    only: list[str] = Field(
        default=[],
        max_length=MOST_ALLOWED,
        description="id of a landmark that may answer; repeatable; by default every one",
        examples=[["138982"]],
    )

    @field_validator("only")
    @classmethod
    def _in_normal_form(cls, ids: list[str]) -> list[str]:
        return [normal_form(one) for one in ids]

    def options(self) -> Options:
        """Return the options of a task."""
        return Options(k=self.k, landmarks=self.landmarks, only=tuple(self.only))


class BatchQuery(_Extent):
    """Parameters of ``/predict/batch``."""


class PredictQuery(_Pictures, _Extent):
    """Parameters of ``/predict``."""

    def options(self) -> Options:
        """Return the options of a task."""
        return Options(
            k=self.k,
            landmarks=self.landmarks,
            only=tuple(self.only),
            picture=self.picture,
            together=self.together or "mean",
        )


class VerifyQuery(_Pictures):
    """Parameters of ``/verify``."""

    landmark: Id = Field(description="id of the landmark to compare with", examples=["138982"])

    def options(self) -> Options:
        """Return the options of a task."""
        return Options(
            only=(self.landmark,), picture=self.picture, together=self.together or "mean"
        )


class EmbedQuery(BaseModel):
    """Parameters of ``/embed``."""

    picture: Id | None = Field(
        default=None,
        description="id of a picture of the gallery, in place of a body",
        examples=[examples.PICTURE],
    )

    def options(self) -> Options:
        """Return the options of a task."""
        return Options(picture=self.picture)
