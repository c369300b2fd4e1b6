//! The one error format: RFC 9457 problems. A [`Problem`] says what the caller can do next; what went wrong inside is
//! logged where it is turned into a problem, once, and never returned.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use events::decide::Refusal;
use events::store::{ExecuteError, LogError};
use serde::Serialize;
use service::retry::Retry;
use service::slots::Full;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use utoipa::ToSchema;

use crate::limit::rate;

/// The media type of a problem.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Headers that an error keeps when it gets its body.
const KEPT: [HeaderName; 4] = [ALLOW, CONTENT_RANGE, rate::POLICY, rate::LEFT];

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $slug:literal $status:ident $title:literal;)*) => {
        /// What kind of problem: its slug, after `/problems/`, is its stable type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind {
            /// Named after the thing that is not there, e.g. `post-not-found`.
            NotFound(&'static str),
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[Self::NotFound("thing"), $(Self::$name,)*];

            /// Slug, status and title.
            fn row(self) -> (Cow<'static, str>, StatusCode, Cow<'static, str>) {
                match self {
                    Self::NotFound(thing) => (
                        format!("{}-not-found", thing.replace(' ', "-")).into(),
                        StatusCode::NOT_FOUND,
                        format!("There is no such {thing}").into(),
                    ),
                    $(Self::$name => ($slug.into(), StatusCode::$status, $title.into()),)*
                }
            }
        }
    };
}

kinds! {
    Malformed "malformed-request" BAD_REQUEST "The request cannot be understood";
    BodyNotJson "body-not-json" BAD_REQUEST "The body is not JSON";
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE "The body is too large";
    ContentType "content-type-unsupported" UNSUPPORTED_MEDIA_TYPE "The body must be application/json";
    Invalid "invalid-field" UNPROCESSABLE_ENTITY "A field has a value that it cannot have";
    TokenMissing "token-missing" UNAUTHORIZED "A bearer token is needed";
    TokenInvalid "token-invalid" UNAUTHORIZED "The bearer token is not one of ours";
    TokenExpired "token-expired" UNAUTHORIZED "The bearer token has expired";
    SessionEnded "session-ended" UNAUTHORIZED "The session is over: log in again";
    CredentialsWrong "credentials-wrong" UNAUTHORIZED "The name or the password is wrong";
    Forbidden "forbidden" FORBIDDEN "You may not do this";
    Suspended "account-suspended" FORBIDDEN "This account is suspended";
    OriginForeign "origin-foreign" FORBIDDEN "A page of another origin may not do this";
    SignupClosed "signup-closed" FORBIDDEN "This installation does not let anybody register";
    InviteInvalid "invite-invalid" FORBIDDEN "The invite is not one, was used, or has ended";
    CodeInvalid "code-invalid" UNPROCESSABLE_ENTITY "The code is not one, was used, or has ended";
    Taken "taken" CONFLICT "Somebody else has that already";
    NoMail "no-mail" CONFLICT "This installation sends no mail";
    RateLimited "rate-limited" TOO_MANY_REQUESTS "That was tried too often: try again later";
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED "This route does not take this method";
    WrongState "wrong-state" CONFLICT "The thing is in a state in which this cannot be done";
    Contended "contended" CONFLICT "Too many others change the same thing: try again";
    KeyReused "idempotency-key-reused" UNPROCESSABLE_ENTITY "This Idempotency-Key was used for another request";
    KeyInvalid "idempotency-key-invalid" BAD_REQUEST "An Idempotency-Key has 1 to 255 visible ASCII characters";
    CursorInvalid "cursor-invalid" BAD_REQUEST "The cursor is not one that this list gave out";
    CursorExpired "cursor-expired" GONE "The list was begun too long ago: begin again";
    PositionInvalid "position-invalid" BAD_REQUEST "The position is not one that we gave out";
    PositionGone "position-of-another-log" GONE "The position belongs to a log that is no longer this one";
    PositionTooOld "position-too-old" GONE "The log no longer holds this position";
    FactTooLarge "fact-too-large" PAYLOAD_TOO_LARGE "This is more than one fact can hold";
    UploadEmpty "upload-empty" UNPROCESSABLE_ENTITY "An empty file cannot be media";
    UploadTooLarge "upload-too-large" UNPROCESSABLE_ENTITY "The file is larger than this installation takes";
    QuotaReached "quota-reached" FORBIDDEN "This is more than your plan allows";
    UploadsOpen "uploads-open" FORBIDDEN "Too many of your uploads are not over";
    NotInParts "upload-not-in-parts" CONFLICT "This upload comes in one piece";
    NoticeForged "notice-invalid" FORBIDDEN "The notice is not one that we believe";
    MediaType "media-type-unsupported" UNPROCESSABLE_ENTITY "Only video, audio and still images are taken";
    UploadMissing "upload-missing" CONFLICT "Storage does not have the bytes yet";
    UploadSizeDiffers "upload-size-differs" UNPROCESSABLE_ENTITY "The stored bytes are not as many as promised";
    UploadChecksumDiffers "upload-checksum-differs" UNPROCESSABLE_ENTITY "The stored bytes do not have the promised SHA-256";
    UploadEnded "upload-ended" CONFLICT "This upload has ended: begin a new one";
    UrlMalformed "signed-url-malformed" BAD_REQUEST "The URL is not one that we signed";
    UrlForged "signed-url-invalid" FORBIDDEN "The signature does not belong to this request";
    UrlExpired "signed-url-expired" FORBIDDEN "The signed URL has expired";
    HeaderDiffers "signed-header-differs" BAD_REQUEST "A header is not the one that was signed";
    ObjectExists "object-exists" CONFLICT "An object is there already: objects are written once";
    Range "range-unsatisfiable" RANGE_NOT_SATISFIABLE "The object has no such bytes";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "Too much to do: try again later";
    Unavailable "unavailable" SERVICE_UNAVAILABLE "Something that is needed does not answer: try again later";
    Timeout "timeout" GATEWAY_TIMEOUT "The request took too long";
    Internal "internal" INTERNAL_SERVER_ERROR "We failed; it is logged under the request id";
}

/// Why a request was not answered as asked.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    retry_after_s: Option<u64>,
    /// What is told besides, in headers.
    told: Vec<(HeaderName, HeaderValue)>,
}

/// One thing that is wrong with the body or the query.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where, a JSON pointer into the body, or the name of a query parameter after a slash.
    pub(crate) pointer: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

/// A problem as sent, `application/problem+json`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// What kind of problem; stable.
    #[schema(example = "/problems/invalid-field")]
    r#type: String,
    /// The kind, for people.
    title: Cow<'static, str>,
    /// The HTTP status.
    status: u16,
    /// This occurrence, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The request, as in our logs.
    request_id: String,
}

impl Problem {
    /// A problem of one field.
    pub(crate) fn field(kind: Kind, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            errors: vec![FieldError {
                pointer: pointer.into(),
                detail: detail.into(),
            }],
            ..kind.into()
        }
    }

    /// A problem of several fields.
    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            ..Kind::Invalid.into()
        }
    }

    /// Says more about this occurrence.
    pub(crate) fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Something inside failed in a way the caller cannot help: logs it, tells nothing.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed");
        Kind::Internal.into()
    }

    /// Something that is needed does not answer: logs it, tells when to try again.
    pub(crate) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "something that is needed does not answer");
        Self {
            retry_after_s: Some(1),
            ..Kind::Unavailable.into()
        }
    }

    /// More than we can do now.
    pub(crate) fn overloaded(retry_after: std::time::Duration) -> Self {
        Self {
            retry_after_s: Some(retry_after.as_secs().max(1)),
            ..Kind::Overloaded.into()
        }
    }

    /// More often than is allowed, by the rate that is `told`.
    pub(crate) fn rate_limited(
        retry_after: std::time::Duration,
        told: Vec<(HeaderName, HeaderValue)>,
    ) -> Self {
        Self {
            retry_after_s: Some(retry_after.as_secs().saturating_add(1)),
            told,
            ..Kind::RateLimited.into()
        }
    }

    /// Someone else changes the same thing just now.
    pub(crate) fn contended() -> Self {
        Self {
            retry_after_s: Some(1),
            ..Kind::Contended.into()
        }
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// Calls a missing `thing` by the name that the route has for it.
    pub(crate) fn renamed(mut self, thing: &'static str, name: &'static str) -> Self {
        if self.kind == Kind::NotFound(thing) {
            self.kind = Kind::NotFound(name);
        }
        self
    }

    fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Kind::NotFound("route"),
            StatusCode::METHOD_NOT_ALLOWED => Kind::MethodNotAllowed,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::ContentType,
            StatusCode::PAYLOAD_TOO_LARGE => Kind::BodyTooLarge,
            StatusCode::UNPROCESSABLE_ENTITY => Kind::Invalid,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Kind::Timeout,
            status if status.is_client_error() => Kind::Malformed,
            _ => Kind::Internal,
        }
        .into()
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            detail: None,
            errors: vec![],
            retry_after_s: None,
            told: vec![],
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(thing) => Kind::NotFound(thing).into(),
            Refusal::Forbidden(why) => Self::from(Kind::Forbidden).detail(why),
            Refusal::WrongState(why) => Self::from(Kind::WrongState).detail(why),
            Refusal::Suspended { until } => {
                let until = until.map(|until| format!("until {}", until.to_rfc3339()));
                Self {
                    detail: until.map(Into::into),
                    ..Kind::Suspended.into()
                }
            }
            Refusal::Invalid { field, reason } => Self::field(Kind::Invalid, field, reason),
        }
    }
}

impl From<ExecuteError> for Problem {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Refused(refusal) => refusal.into(),
            ExecuteError::KeyReused => Kind::KeyReused.into(),
            ExecuteError::TooLarge { bytes, limit } => Self::from(Kind::FactTooLarge)
                .detail(format!("{bytes} bytes; the limit is {limit}")),
            ExecuteError::Unrepresentable(why) => Self::from(Kind::Invalid).detail(why),
            ExecuteError::Overloaded { retry_after } => Self::overloaded(retry_after),
            ExecuteError::Conflict { .. } | ExecuteError::Contended => Self::contended(),
            ExecuteError::Unavailable(error) => error.into(),
            error @ (ExecuteError::Seal(_) | ExecuteError::Unreadable(_)) => Self::internal(&error),
        }
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::overloaded(std::time::Duration::from_secs(1)),
            Full::Key => Self::contended(),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Postgres(error) => error.into(),
            LogError::TooOld { floor, .. } => Self::from(Kind::PositionTooOld).detail(format!(
                "the log begins at {floor}: ask from there, or read an export for what was before"
            )),
            other => Self::internal(&other),
        }
    }
}

impl From<accounts::Error> for Problem {
    fn from(error: accounts::Error) -> Self {
        use accounts::Error;
        match error {
            Error::HandleTaken => Self::field(Kind::Taken, "/handle", "is somebody else's"),
            Error::EmailTaken => Self::field(Kind::Taken, "/email", "is somebody else's"),
            Error::InviteInvalid => Kind::InviteInvalid.into(),
            Error::CredentialsWrong => Kind::CredentialsWrong.into(),
            Error::SessionEnded | Error::SessionCopied => Kind::SessionEnded.into(),
            Error::PermitInvalid => Kind::CodeInvalid.into(),
            Error::KeyReused => Kind::KeyReused.into(),
            Error::KeyDeleted => {
                Self::from(Kind::WrongState).detail("the key that this made was deleted")
            }
            Error::NoMail => Kind::NoMail.into(),
            Error::Busy => Self::overloaded(std::time::Duration::from_secs(1)),
            Error::Postgres(error) => (&*error).into(),
        }
    }
}

impl From<storage::Error> for Problem {
    fn from(error: storage::Error) -> Self {
        use storage::Error;
        match error {
            Error::Missing(_) => Kind::UploadMissing.into(),
            Error::PartsMissing { missing, .. } => Self::from(Kind::UploadMissing).detail(format!(
                "{} of its parts, the first is {}",
                missing.len(),
                missing.first().copied().unwrap_or_default()
            )),
            Error::SizeDiffers {
                expected, found, ..
            } => Self::from(Kind::UploadSizeDiffers)
                .detail(format!("{found} bytes instead of {expected}")),
            Error::ChecksumDiffers { .. } => Kind::UploadChecksumDiffers.into(),
            Error::Exists(_) => Kind::ObjectExists.into(),
            // Somebody else wrote it while it was read.
            Error::Changed(_) => Kind::Contended.into(),
            error if error.retry() == Retry::Later => Self::unavailable(&error),
            error => Self::internal(&error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        (&error).into()
    }
}

impl From<&sqlx::Error> for Problem {
    fn from(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::overloaded(std::time::Duration::from_secs(1)),
            // Whoever would have worked has ended, as this process does.
            sqlx::Error::Io(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Tls(_) => Self::unavailable(error),
            // Whatever its SQLSTATE: the session was ended, which is more than a statement of ours can bring about.
            sqlx::Error::Database(refused) if ends_the_session(refused.as_ref()) => {
                Self::unavailable(error)
            }
            sqlx::Error::Database(refused) => {
                match refused.code().as_deref().and_then(from_sqlstate) {
                    Some(Kind::Unavailable) => Self::unavailable(error),
                    Some(kind) => kind.into(),
                    None => Self::internal(error),
                }
            }
            _ => Self::internal(error),
        }
    }
}

/// Whether Postgres ended the session with this error, as it does when its disk is full, without a telling SQLSTATE.
fn ends_the_session(error: &dyn DatabaseError) -> bool {
    let told = error.try_downcast_ref::<PgDatabaseError>();
    told.is_some_and(|told| matches!(told.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// What an SQLSTATE means for the caller, when it is not that our statement is wrong.
fn from_sqlstate(code: &str) -> Option<Kind> {
    match code {
        // A statement took longer than it may.
        "57014" => Some(Kind::Timeout),
        // A lock was not to be had in time.
        // A table, column or schema is not there: what another version made is read until it is replaced.
        "55P03" | "42P01" | "42703" | "3F000" => Some(Kind::Unavailable),
        // The connection is lost, a transaction lost to another, resources ran out, the server stops or starts.
        _ => ["08", "40", "53", "57P"]
            .iter()
            .any(|class| code.starts_with(class))
            .then_some(Kind::Unavailable),
    }
}

impl IntoResponse for Problem {
    /// Without its body: [`finish`] writes that, because only there the request id is known.
    fn into_response(mut self) -> Response {
        let mut response = self.kind.row().1.into_response();
        response
            .headers_mut()
            .extend(std::mem::take(&mut self.told));
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every error its body, also those that the framework made: unknown routes, wrong methods, bad parameters.
pub(crate) fn finish(response: Response, request_id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut head, _) = response.into_parts();
    let problem = head
        .extensions
        .remove::<Problem>()
        .unwrap_or_else(|| Problem::from_status(status));
    let (slug, status, title) = problem.kind.row();
    let body = Json(ProblemBody {
        r#type: format!("/problems/{slug}"),
        title,
        status: status.as_u16(),
        detail: problem.detail,
        errors: problem.errors,
        request_id: request_id.to_owned(),
    });
    // Of the answer's own headers only what still holds is kept.
    let mut response = (status, body).into_response();
    *response.extensions_mut() = head.extensions;
    for name in KEPT {
        if let Some(value) = head.headers.remove(&name) {
            response.headers_mut().insert(name, value);
        }
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}
