//! Who speaks for a topic of Amazon SNS: its region's own host says under which certificate, by HTTPS
//! (docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS messages").

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use moka::future::Cache;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::body::SnsNotice;
use super::must_be_fresh;
use crate::config::ConfigError;
use crate::problem::{Kind, Problem};

/// How long SNS may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a certificate is believed without reading it again.
const BELIEVED: Duration = Duration::from_hours(24);
/// The largest certificate, bytes.
const CERTIFICATE_MAX: usize = 64 * 1024;
/// How old a message may be: SNS tries for an hour.
const FRESH: chrono::Duration = chrono::Duration::hours(1);

/// The one topic that is believed.
pub(crate) struct Topic {
    arn: String,
    /// Of its region.
    origin: Url,
    http: Client,
    keys: Cache<String, Arc<DecodingKey>>,
}

impl Topic {
    /// The topic `arn`; `origin` in place of its region's own host.
    pub(crate) fn new(arn: &str, origin: Option<&Url>) -> Result<Self, ConfigError> {
        let mut parts = arn.split(':');
        let sns = (parts.next(), parts.nth(1));
        let region = match (sns, parts.next()) {
            ((Some("arn"), Some("sns")), Some(region)) if is_region(region) => region,
            _ => return Err(ConfigError::Topic(arn.to_owned())),
        };
        let own = || Url::parse(&format!("https://sns.{region}.amazonaws.com")).ok();
        let origin = origin.cloned().or_else(own);
        let http = Client::builder()
            .timeout(ANSWER)
            .redirect(Policy::none())
            .build()
            .ok();
        let (origin, http) = origin
            .zip(http)
            .ok_or_else(|| ConfigError::Topic(arn.to_owned()))?;
        Ok(Self {
            arn: arn.to_owned(),
            origin,
            http,
            keys: Cache::builder()
                .max_capacity(8)
                .time_to_live(BELIEVED)
                .build(),
        })
    }

    /// Refuses what this topic did not say, or said long ago.
    pub(super) async fn verify(
        &self,
        notice: &SnsNotice,
        now: DateTime<Utc>,
    ) -> Result<(), Problem> {
        let forged = |why: &'static str| Problem::from(Kind::NoticeForged).detail(why);
        if notice.topic_arn != self.arn {
            return Err(forged("it is of another topic"));
        }
        if notice.signature_version != "2" {
            return Err(forged(
                "its signature is of another version: set SignatureVersion to 2 on the topic",
            ));
        }
        let at = DateTime::parse_from_rfc3339(&notice.timestamp)
            .map_err(|_| forged("it has no time"))?;
        must_be_fresh(at.to_utc(), now, FRESH)?;
        let certificate = self
            .certificate(&notice.signing_cert_url)
            .ok_or_else(|| forged("its certificate is elsewhere"))?;
        let signed = notice
            .signed()
            .ok_or_else(|| forged("it is of an unknown type"))?;
        let tag = STANDARD
            .decode(&notice.signature)
            .map_err(|_| forged("its signature is none"))?;
        let key = self.key(certificate).await?;
        if verifies(&key, &signed, &tag) {
            return Ok(());
        }
        Err(forged("its signature does not belong to it"))
    }

    /// Tells SNS that the topic may send here.
    pub(super) async fn confirm(&self, notice: &SnsNotice) -> Result<(), Problem> {
        let url = notice.subscribe_url.as_deref();
        let url = url.and_then(|url| self.ours(url)).filter(|url| {
            let says = |name, value| {
                url.query_pairs()
                    .any(|pair| pair == (Cow::Borrowed(name), Cow::Borrowed(value)))
            };
            says("Action", "ConfirmSubscription") && says("TopicArn", &self.arn)
        });
        let url = url.ok_or(Kind::NoticeForged)?;
        let answer = self.http.get(url).send().await;
        answer
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| Problem::unavailable(&error.without_url()))?;
        tracing::info!(
            topic = self.arn,
            "a subscription to notices of storage is confirmed"
        );
        Ok(())
    }

    /// The URL, if a certificate of SNS is there: whatever else that host answers, others may have had it say.
    fn certificate(&self, url: &str) -> Option<Url> {
        let url = self.ours(url)?;
        let name = url.path().strip_prefix("/SimpleNotificationService-")?;
        let named = name
            .strip_suffix(".pem")?
            .bytes()
            .all(|b| b.is_ascii_hexdigit());
        (named && url.query().is_none() && url.fragment().is_none()).then_some(url)
    }

    /// The URL, if it is one of the topic's region.
    fn ours(&self, url: &str) -> Option<Url> {
        let url = Url::parse(url).ok()?;
        (url.origin() == self.origin.origin() && url.username().is_empty()).then_some(url)
    }

    async fn key(&self, certificate: Url) -> Result<Arc<DecodingKey>, Problem> {
        let fetch = self.fetch(certificate.clone());
        let key = self.keys.try_get_with(certificate.to_string(), fetch).await;
        key.map_err(|error: Arc<std::io::Error>| Problem::unavailable(&*error))
    }

    async fn fetch(&self, certificate: Url) -> Result<Arc<DecodingKey>, std::io::Error> {
        let other = std::io::Error::other::<reqwest::Error>;
        let answer = self.http.get(certificate).send().await;
        let mut answer = answer
            .and_then(reqwest::Response::error_for_status)
            .map_err(other)?;
        let mut pem = vec![];
        while let Some(some) = answer.chunk().await.map_err(other)? {
            pem.extend_from_slice(&some);
            if pem.len() > CERTIFICATE_MAX {
                return Err(std::io::Error::other("a certificate of SNS is too large"));
            }
        }
        if !pem
            .trim_ascii_start()
            .starts_with(b"-----BEGIN CERTIFICATE-----")
        {
            return Err(std::io::Error::other("what SNS gives is no certificate"));
        }
        DecodingKey::from_rsa_pem(&pem)
            .map(Arc::new)
            .map_err(std::io::Error::other)
    }
}

fn is_region(region: &str) -> bool {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !region.is_empty() && region.len() <= 32 && region.bytes().all(letters)
}

fn verifies(key: &DecodingKey, signed: &str, tag: &[u8]) -> bool {
    let tag = URL_SAFE_NO_PAD.encode(tag);
    crypto::verify(&tag, signed.as_bytes(), key, Algorithm::RS256).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        Topic::new("arn:aws:sns:eu-west-1:1:uploads", None).unwrap()
    }

    #[test]
    fn a_topic_is_of_a_region() {
        assert_eq!(
            topic().origin.as_str(),
            "https://sns.eu-west-1.amazonaws.com/"
        );
        for not_one in [
            "",
            "uploads",
            "arn:aws:sqs:eu-west-1:1:q",
            "arn:aws:sns:evil.example/:1:t",
            "arn:aws:sns::1:t",
        ] {
            assert!(Topic::new(not_one, None).is_err(), "{not_one}");
        }
    }

    #[test]
    fn only_the_region_s_own_host_is_asked() {
        let topic = topic();
        let host = "https://sns.eu-west-1.amazonaws.com";
        assert!(
            topic
                .certificate(&format!("{host}/SimpleNotificationService-0af.pem"))
                .is_some()
        );
        for other in [
            "/",
            "/x.pem",
            "/SimpleNotificationService-0af.pem?Action=x",
            "/SimpleNotificationService-../x.pem",
        ] {
            assert!(
                topic.certificate(&format!("{host}{other}")).is_none(),
                "{other}"
            );
        }
        assert!(
            topic
                .ours("https://sns.eu-west-1.amazonaws.com/x.pem")
                .is_some()
        );
        for elsewhere in [
            "http://sns.eu-west-1.amazonaws.com/x.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/x.pem",
            "https://sns.eu-west-1.amazonaws.com:444/x.pem",
            "https://a@sns.eu-west-1.amazonaws.com/x.pem",
            "https://sns.us-east-1.amazonaws.com/x.pem",
            "file:///etc/passwd",
            "",
        ] {
            assert!(topic.ours(elsewhere).is_none(), "{elsewhere}");
        }
    }
}
