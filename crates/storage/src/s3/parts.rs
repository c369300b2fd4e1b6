//! Objects that clients put in parts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Method, Response};
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload, ListParts};
use service::clock::Clock;
use url::Url;

use super::{Attempts, Bucket, OWN, accepted, timestamp, unavailable};
use crate::error::Error;
use crate::key::Key;
use crate::parts::{Part, Parts};
use crate::store::expiry;
use crate::terms::SignedRequest;

/// How long the store may take to answer; and to put parts together.
const ANSWER: Duration = Duration::from_secs(30);
const JOINING: Duration = Duration::from_mins(10);

impl Bucket {
    pub(crate) async fn begin_parts(&self, key: &Key, media_type: &str) -> Result<String, Error> {
        let name = self.name(key);
        let mut action = self
            .signer
            .create_multipart_upload(Some(&self.credentials), &name);
        action.headers_mut().insert("content-type", media_type);
        let url = action.sign_with_time(OWN, &timestamp(Clock::System.now())?);
        let request = self.http.post(url).header("content-type", media_type);
        let answer = accepted(
            key,
            request.timeout(ANSWER).send().await.map_err(unavailable)?,
        );
        let answer = text(answer.await?).await?;
        let begun = CreateMultipartUpload::parse_response(&answer).map_err(not_understood)?;
        Ok(begun.upload_id().to_owned())
    }

    pub(crate) fn sign_part(
        &self,
        parts: &Parts,
        number: u32,
        expires: Duration,
        now: DateTime<Utc>,
    ) -> Result<SignedRequest, Error> {
        let missing = || Error::Missing(parts.key.clone());
        let bytes = parts.bytes_of(number).ok_or_else(missing)?;
        let number = u16::try_from(number).map_err(|_| missing())?;
        let name = self.name(&parts.key);
        let credentials = Some(&self.credentials);
        let mut action = self
            .signer
            .upload_part(credentials, &name, number, &parts.upload);
        action
            .headers_mut()
            .insert("content-length", bytes.to_string());
        Ok(SignedRequest {
            method: "PUT",
            url: action.sign_with_time(expires, &timestamp(now)?),
            headers: vec![("content-length".to_owned(), bytes.to_string())],
            expires_at: expiry(expires, now),
        })
    }

    /// All parts that are there.
    pub(crate) async fn parts(&self, key: &Key, upload: &str) -> Result<Vec<Part>, Error> {
        let (name, mut all, mut after) = (self.name(key), vec![], None);
        loop {
            let mut action = self
                .signer
                .list_parts(Some(&self.credentials), &name, upload);
            if let Some(after) = after {
                action.set_part_number_marker(after);
            }
            let url = action.sign_with_time(OWN, &timestamp(Clock::System.now())?);
            let answer = text(self.ask(key, Method::GET, url).await?).await?;
            let page = ListParts::parse_response(&answer).map_err(not_understood)?;
            all.extend(page.parts.into_iter().map(|part| Part {
                number: part.number.into(),
                bytes: part.size,
                etag: part.etag,
            }));
            match page.next_part_number_marker {
                Some(next) if Some(next) > after => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    pub(crate) async fn join_parts(
        &self,
        key: &Key,
        upload: &str,
        parts: &[Part],
    ) -> Result<(), Error> {
        let (name, etags) = (self.name(key), parts.iter().map(|part| part.etag.as_str()));
        let credentials = Some(&self.credentials);
        let mut action = self
            .signer
            .complete_multipart_upload(credentials, &name, upload, etags);
        action.headers_mut().insert("if-none-match", "*");
        let url = action.sign_with_time(OWN, &timestamp(Clock::System.now())?);
        let request = self
            .http
            .post(url)
            .header("if-none-match", "*")
            .body(action.body());
        let answer = request.timeout(JOINING).send().await.map_err(unavailable)?;
        let answer = text(accepted(key, answer).await?).await?;
        joined(&answer)
    }

    pub(crate) async fn give_up_parts(&self, key: &Key, upload: &str) -> Result<(), Error> {
        let name = self.name(key);
        let action = self
            .signer
            .abort_multipart_upload(Some(&self.credentials), &name, upload);
        let url = action.sign_with_time(OWN, &timestamp(Clock::System.now())?);
        match self.ask(key, Method::DELETE, url).await {
            Ok(_) | Err(Error::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks what may be asked again.
    async fn ask(&self, key: &Key, method: Method, url: Url) -> Result<Response, Error> {
        let mut attempts = Attempts::new();
        loop {
            let request = self
                .http
                .request(method.clone(), url.clone())
                .timeout(ANSWER);
            let answer = match request.send().await {
                Ok(response) => accepted(key, response).await,
                Err(error) => Err(unavailable(error)),
            };
            match answer {
                Err(error) if attempts.again(&error).await => {}
                result => return result,
            }
        }
    }
}

/// What came of putting parts together: the status may be sent before it is known how that ends.
fn joined(answer: &str) -> Result<(), Error> {
    if CompleteMultipartUploadResponse::parse(answer).is_ok() {
        return Ok(());
    }
    let said: String = answer.chars().take(300).collect();
    // Amazon S3, "CompleteMultipartUpload" and "Error responses": these are to be asked again.
    let passing = ["InternalError", "ServiceUnavailable", "SlowDown"];
    let mut passing = passing.iter().map(|code| format!("<Code>{code}</Code>"));
    Err(if passing.any(|code| said.contains(&code)) {
        Error::Unavailable(said.into())
    } else {
        Error::Refused(said)
    })
}

async fn text(response: Response) -> Result<String, Error> {
    response.text().await.map_err(unavailable)
}

fn not_understood(error: impl std::error::Error) -> Error {
    Error::Refused(format!("an answer that is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_parts_is_in_the_body() {
        let done = "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <Location>l</Location><Bucket>b</Bucket><Key>k</Key><ETag>e</ETag>\
                    </CompleteMultipartUploadResult>";
        assert!(joined(done).is_ok());
        let error = |code| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let later = joined(&error("InternalError"));
        assert!(matches!(later, Err(Error::Unavailable(_))), "{later:?}");
        let never = joined(&error("InvalidPart"));
        assert!(matches!(never, Err(Error::Refused(_))), "{never:?}");
    }
}
