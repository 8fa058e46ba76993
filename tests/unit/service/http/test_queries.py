"""Parameters of requests are in the form that galleries have."""

from service.http.queries import BatchQuery, EmbedQuery, PredictQuery, VerifyQuery

COMPOSED, DECOMPOSED = "S\u00e9", "Se\u0301"


def test_ids_are_brought_to_the_normal_form() -> None:
    """A phone or a Mac may send accents decomposed; a gallery has them composed."""
    predict = PredictQuery(only=[DECOMPOSED, "9"], picture=DECOMPOSED).options()
    assert (predict.only, predict.picture) == ((COMPOSED, "9"), COMPOSED)
    assert BatchQuery(only=[DECOMPOSED]).options().only == (COMPOSED,)
    verify = VerifyQuery(landmark=DECOMPOSED, picture=DECOMPOSED).options()
    assert (verify.only, verify.picture) == ((COMPOSED,), COMPOSED)
    assert EmbedQuery(picture=DECOMPOSED).options().picture == COMPOSED
