"""What is asked of a service, and which answer is right?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from probes.api import MIB, Bytes, Duration, Params, PatientRegex, Secret
from probes.services.assertions import JsonAssertion
from probes.world.http import Request, checked_url

DAY = 86400

Status = Annotated[
    str,
    BeforeValidator(str),
    Field(pattern=r"^[1-5](xx|[0-9]{2})$"),
    WithJsonSchema({"type": ["string", "integer"], "examples": [200, "2xx"]}),
]


class HttpParams(Params):
    model_config = ConfigDict(hide_input_in_errors=True)  # a header may be a secret

    url: Annotated[str, AfterValidator(checked_url)] = Field(description="What is asked; http or https.")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(
        "GET", description="The method."
    )
    headers: Mapping[str, str] = Field({}, description="Headers of the request.")
    secret_headers: Mapping[str, Secret] = Field({}, description="Headers whose values are shown nowhere.")
    body: str = Field("", description="Body of the request; set its Content-Type in `headers`.")
    timeout: Duration = Field(10.0, gt=0, description="Time for the whole answer, redirects included.")
    follow_redirects: int = Field(5, ge=0, le=20, description="How many redirects are followed.")
    statuses: tuple[Status, ...] = Field(("2xx",), min_length=1, description="Statuses that are right: 204, 2xx.")
    header_matches: Mapping[str, PatientRegex] = Field({}, description="Pattern by name of a header of the answer.")
    body_matches: tuple[PatientRegex, ...] = Field((), description="Patterns that the body must contain.")
    body_not_matches: tuple[PatientRegex, ...] = Field((), description="Patterns that the body must not contain.")
    json_values: tuple[JsonAssertion, ...] = Field((), description="Assertions on values of a JSON body.")
    min_bytes: Bytes = Field(0, description="Size of the body below which `http-body-size` fires.")
    max_bytes: Bytes = Field(MIB, le=64 * MIB, description="Size of the body above which it fires; no more is read.")
    max_seconds: Duration | None = Field(None, description="Duration above which `http-slow` fires.")
    verify: bool = Field(True, description="Refuse a certificate that is not trusted.")
    ca_file: str = Field("", description="Authorities to trust instead of the system's (PEM).")
    cert_file: str = Field("", description="Client certificate to show (PEM).")
    key_file: str = Field("", description="Its key, when it is in another file.")
    minimum_validity: Duration = Field(14.0 * DAY, description="Validity left below which `http-tls-expiring` fires.")

    @model_validator(mode="after")
    def _can_be_sent(self) -> HttpParams:
        twice = {n.lower() for n in self.headers} & {n.lower() for n in self.secret_headers}
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))}: in headers and in secret_headers")
        self.request()
        return self

    def request(self) -> Request:
        """The request these params describe. ValueError when it could not be sent as it is meant."""
        secrets = {name: value.get_secret_value() for name, value in self.secret_headers.items()}
        return Request(
            url=self.url,
            method=self.method,
            headers={**self.headers, **secrets},
            body=self.body.encode(),
            timeout=self.timeout,
            limit=self.max_bytes,
            follow_redirects=self.follow_redirects,
            verify=self.verify,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
        )
