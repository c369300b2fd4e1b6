//! A word of a closed set, as a path or a query says it.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::problem::{Kind, Problem};

/// A word of the set `T`. One that is none of it is refused where it is looked at: only there its parameter has a name.
#[derive(Deserialize)]
#[serde(from = "String", bound = "T: DeserializeOwned")]
pub(crate) struct Word<T>(Result<T, Error>);

impl<T: DeserializeOwned> From<String> for Word<T> {
    fn from(text: String) -> Self {
        Self(T::deserialize(text.into_deserializer()))
    }
}

impl<T> Word<T> {
    /// The word, of the parameter that `pointer` names.
    pub(crate) fn read(self, pointer: &str) -> Result<T, Problem> {
        self.0
            .map_err(|error| Problem::field(Kind::Invalid, pointer, error.to_string()))
    }

    /// The word, where there is one.
    pub(crate) fn if_any(word: Option<Self>, pointer: &str) -> Result<Option<T>, Problem> {
        word.map(|word| word.read(pointer)).transpose()
    }
}
