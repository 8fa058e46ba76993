"""Requests refused as HTTP, before any picture is looked at; statuses are in ``problems``."""

from service.inference.errors import RequestRefusedError


class BodyTooLargeError(RequestRefusedError):
    """The body is larger than a picture may be; the rest of it was not read."""


class MultipartError(RequestRefusedError):
    """The multipart body does not follow its own boundary, or stops before its end."""


class FieldError(RequestRefusedError):
    """The form does not hold the pictures in the expected field."""


class RequestTimeoutError(RequestRefusedError):
    """The client took too long to send its body."""


class KeyRefusedError(RequestRefusedError):
    """The request has no API key where one is needed, or an unknown one."""


class AdminOffError(RequestRefusedError):
    """No admin key is configured, so nobody may use this endpoint."""


class NotReadyError(RequestRefusedError):
    """No gallery is open."""
