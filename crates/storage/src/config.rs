//! Which store: one URL, and the keys for it.

use std::path::PathBuf;

use service::secret::Secret;
use url::Url;

use crate::error::Error;

/// Where objects are kept.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Where objects are kept: a folder (`/srv/cinelog` or `file:///srv/cinelog`) or a bucket
    /// (`s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]`).
    #[arg(long, env = "STORAGE_URL")]
    pub storage_url: Option<String>,
    /// The bucket's access key.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    pub aws_access_key_id: Option<String>,
    /// The bucket's secret key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub aws_secret_access_key: Option<Secret>,
    /// Where clients reach this installation: the base of a folder store's signed URLs. The
    /// address that the API listens on by default, unless set.
    #[arg(long, env = "PUBLIC_URL")]
    pub public_url: Option<Url>,
}

impl Config {
    pub(crate) fn public_url(&self) -> Result<Url, Error> {
        match &self.public_url {
            Some(url) => Ok(url.clone()),
            None => Url::parse("http://127.0.0.1:8080")
                .map_err(|error| Error::Config(error.to_string())),
        }
    }
}

/// What a storage URL names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Folder(PathBuf),
    Bucket(BucketLocation),
}

/// A bucket, or the part of it under a prefix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BucketLocation {
    pub(crate) bucket: String,
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
    /// None for Amazon's own.
    pub(crate) endpoint: Option<Url>,
    pub(crate) region: String,
}

impl Location {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if !text.contains("://") {
            return Ok(Self::Folder(std::path::absolute(text)?));
        }
        let invalid = |why: &str| Error::Config(format!("`{text}`: {why}"));
        let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        match url.scheme() {
            "file" => url
                .to_file_path()
                .map(Self::Folder)
                .map_err(|()| invalid("not an absolute path")),
            "s3" => BucketLocation::from_url(&url)
                .map(Self::Bucket)
                .map_err(|why| invalid(&why)),
            _ => Err(invalid("expected a folder, file:// or s3://")),
        }
    }
}

impl BucketLocation {
    fn from_url(url: &Url) -> Result<Self, String> {
        let bucket = url
            .host_str()
            .ok_or("a bucket's name is missing")?
            .to_owned();
        let prefix = match url.path().trim_matches('/') {
            "" => String::new(),
            path => format!(
                "{}/",
                path.parse::<crate::Key>()
                    .map_err(|error| error.to_string())?
            ),
        };
        let (mut endpoint, mut region) = (None, "us-east-1".to_owned());
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "endpoint" => {
                    let url = Url::parse(&value).map_err(|error| format!("endpoint: {error}"))?;
                    endpoint = Some(url);
                }
                "region" => region = value.into_owned(),
                other => return Err(format!("unknown option `{other}`; known: endpoint, region")),
            }
        }
        Ok(Self {
            bucket,
            prefix,
            endpoint,
            region,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_path_or_a_file_url() {
        assert_eq!(
            Location::parse("/srv/x").unwrap(),
            Location::Folder("/srv/x".into())
        );
        assert_eq!(
            Location::parse("file:///srv/x").unwrap(),
            Location::Folder("/srv/x".into())
        );
    }

    #[test]
    fn a_bucket_has_a_prefix_an_endpoint_and_a_region() {
        let location =
            Location::parse("s3://media/a/b?endpoint=http://127.0.0.1:9000&region=eu-1").unwrap();
        let expected = BucketLocation {
            bucket: "media".into(),
            prefix: "a/b/".into(),
            endpoint: Some("http://127.0.0.1:9000".parse().unwrap()),
            region: "eu-1".into(),
        };
        assert_eq!(location, Location::Bucket(expected));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("s3://media?endpont=http://x", "unknown option `endpont`"),
            ("ftp://media", "expected a folder"),
            ("s3://media/a%20b", "not an object key"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
