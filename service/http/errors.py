"""Requests refused as HTTP, before any picture is looked at; statuses are in ``problems``."""

from service.inference.errors import BusyError, RequestRefusedError


class BodyTooLargeError(RequestRefusedError):
    """The body is larger than a picture may be; the rest of it was not read.

    Args:
        max_bytes: Of a picture.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the picture is too large: at most {max_bytes} bytes are accepted")


class MultipartError(RequestRefusedError):
    """The multipart body does not follow its own boundary, or stops before its end."""


class JsonError(RequestRefusedError):
    """The body is not JSON, or a picture in it is not base64."""


class FieldError(RequestRefusedError):
    """The form or the JSON does not hold the pictures in the expected field."""


class RequestTimeoutError(RequestRefusedError):
    """The client took too long to send its body."""


class TooSlowError(BusyError):
    """The body arrives more slowly than others that need its memory."""


class HostRefusedError(RequestRefusedError):
    """The request names a host that this service is not known by."""


class KeyRefusedError(RequestRefusedError):
    """The request has no API key where one is needed, or an unknown one."""


class AdminOffError(RequestRefusedError):
    """No admin key is configured, so nobody may use this endpoint."""


class NotReadyError(RequestRefusedError):
    """No gallery is open."""
