//! Whether a schema may take the place of a published one. Pure.
//!
//! It may when every payload of the published one fits, and when a reader who knows only the published one finds in new
//! payloads all that it promised. So optional fields and enum values may be added (readers ignore fields and take values
//! that they do not know), and texts may change; nothing else. Where it is hard to tell, the answer is no.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// One thing that readers or stored facts would trip over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Break {
    /// JSON pointer into the published schema, or for what is new, where it would be.
    pub(super) pointer: String,
    /// What happened there.
    pub(super) what: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.what)
    }
}

/// Keywords for people and tools; they promise nothing about payloads. `$defs` are compared where they are used.
const TEXTS: [&str; 8] = [
    "$id",
    "$schema",
    "$defs",
    "$comment",
    "title",
    "description",
    "examples",
    "deprecated",
];

/// Everything in `new` that breaks what `old` promised.
pub(super) fn breaks(old: &Value, new: &Value) -> Vec<Break> {
    let mut walk = Walk {
        old,
        new,
        seen: BTreeSet::new(),
        found: vec![],
    };
    walk.compare(String::new(), old, new);
    walk.found
}

struct Walk<'a> {
    old: &'a Value,
    new: &'a Value,
    /// Pairs of definitions already compared: one report for each, and an end to recursive ones.
    seen: BTreeSet<(String, String)>,
    found: Vec<Break>,
}

impl Walk<'_> {
    fn add(&mut self, pointer: String, what: impl Into<String>) {
        let what = what.into();
        self.found.push(Break { pointer, what });
    }

    fn compare(&mut self, pointer: String, old: &Value, new: &Value) {
        let (from, to) = (reference(old), reference(new));
        if from.is_none() && to.is_none() {
            return self.compare_here(pointer, old, new);
        }
        let pair = (
            from.unwrap_or(&pointer).to_owned(),
            to.unwrap_or(&pointer).to_owned(),
        );
        if !self.seen.insert(pair) {
            return;
        }
        let follow = |document: &Value, place: &Value, to: Option<&str>| match to {
            Some(to) => document.pointer(to).cloned(),
            None => Some(place.clone()),
        };
        let resolved = (follow(self.old, old, from), follow(self.new, new, to));
        let at = from.map_or(pointer, str::to_owned);
        match resolved {
            (Some(old), Some(new)) => self.compare(at, &old, &new),
            _ => self.add(at, "its $ref leads nowhere"),
        }
    }

    fn compare_here(&mut self, pointer: String, old: &Value, new: &Value) {
        let (Value::Object(old), Value::Object(new)) = (old, new) else {
            if old != new {
                self.add(pointer, format!("was {old} and is {new}"));
            }
            return;
        };
        if let (Some(before), Some(after)) = (values(old), values(new)) {
            for gone in before.difference(&after) {
                self.add(pointer.clone(), format!("value {gone} removed"));
            }
            return;
        }
        self.fields(&pointer, old, new);
        let keywords: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for keyword in keywords {
            if ["properties", "required"].contains(&keyword.as_str())
                || TEXTS.contains(&keyword.as_str())
            {
                continue;
            }
            let at = format!("{pointer}/{keyword}");
            match (old.get(keyword), new.get(keyword)) {
                (Some(old), Some(new)) => self.keyword(at, keyword, old, new),
                (Some(old), None) => self.add(at, format!("was {old} and is gone")),
                (None, Some(new)) => self.add(at, format!("was not there and is {new}")),
                (None, None) => {}
            }
        }
    }

    fn keyword(&mut self, at: String, keyword: &str, old: &Value, new: &Value) {
        match (keyword, old, new) {
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(old), Value::Array(new))
                if old.len() == new.len() =>
            {
                for (n, (old, new)) in old.iter().zip(new).enumerate() {
                    self.compare(format!("{at}/{n}"), old, new);
                }
            }
            ("items" | "additionalProperties", ..) => self.compare(at, old, new),
            _ if old == new => {}
            _ => self.add(at, format!("was {old} and is {new}")),
        }
    }

    fn fields(&mut self, pointer: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let none = Map::new();
        let fields = |schema: &Map<String, Value>| {
            let fields = schema.get("properties").and_then(Value::as_object);
            fields.unwrap_or(&none).clone()
        };
        let (before, after) = (fields(old), fields(new));
        let (needed, needs) = (required(old), required(new));
        for (field, schema) in &before {
            let at = format!("{pointer}/properties/{}", escaped(field));
            match after.get(field) {
                None => self.add(at, "removed"),
                Some(_) if needed.contains(field) && !needs.contains(field) => {
                    self.add(at, "was always there and now may be missing");
                }
                Some(_) if needs.contains(field) && !needed.contains(field) => {
                    self.add(at, "became required: stored facts may lack it");
                }
                Some(now) => self.compare(at, schema, now),
            }
        }
        for field in needs.iter().filter(|field| !before.contains_key(*field)) {
            let at = format!("{pointer}/properties/{}", escaped(field));
            self.add(at, "added as required: stored facts lack it");
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix('#')
}

fn required(schema: &Map<String, Value>) -> BTreeSet<String> {
    let list = schema.get("required").and_then(Value::as_array);
    let names = list.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// The values of an enumeration, in each of the ways in which one is written.
fn values(schema: &Map<String, Value>) -> Option<BTreeSet<String>> {
    if let Some(only) = schema.get("const") {
        return Some(BTreeSet::from([only.to_string()]));
    }
    if let Some(list) = schema.get("enum") {
        return Some(list.as_array()?.iter().map(Value::to_string).collect());
    }
    let choices = schema.get("oneOf")?.as_array()?.iter();
    let sets: Option<Vec<_>> = choices.map(|choice| values(choice.as_object()?)).collect();
    Some(sets?.into_iter().flatten().collect())
}

fn escaped(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A schema with the fields `a` (required) and `b` (optional), `b` being a choice, and a definition `D`.
    fn published() -> Value {
        json!({
            "type": "object",
            "description": "text",
            "properties": {
                "a": {"$ref": "#/$defs/D"},
                "b": {"oneOf": [{"const": "x", "type": "string"}, {"const": "y", "type": "string"}]},
                "c": {"type": ["integer", "null"], "minimum": 0}
            },
            "required": ["a"],
            "$defs": {"D": {"type": "object", "properties": {"u": {"type": "string", "maxLength": 9}}}}
        })
    }

    fn changed(pointer: &str, value: Value) -> Vec<String> {
        let mut new = published();
        let (place, key) = pointer.rsplit_once('/').unwrap();
        let place = new.pointer_mut(place).unwrap().as_object_mut().unwrap();
        if value == json!("GONE") {
            place.remove(key);
        } else {
            place.insert(key.to_owned(), value);
        }
        let found = breaks(&published(), &new);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_readers_do_not_notice_is_compatible() {
        for (pointer, value) in [
            ("/description", json!("another text")),
            ("/properties/d", json!({"type": "string"})),
            ("/$defs/D/properties/v", json!({"type": "string"})),
            ("/$defs/E", json!({"type": "string"})),
            ("/properties/b", json!({"enum": ["z", "y", "x"]})),
            (
                "/properties/a",
                json!({"type": "object", "properties": {"u": {"type": "string", "maxLength": 9}}}),
            ),
        ] {
            assert_eq!(changed(pointer, value), [""; 0], "{pointer}");
        }
    }

    #[test]
    fn each_break_is_told_with_its_place() {
        for (pointer, value, told) in [
            ("/properties/c", json!("GONE"), "/properties/c: removed"),
            (
                "/$defs/D/properties/u",
                json!("GONE"),
                "/$defs/D/properties/u: removed",
            ),
            (
                "/$defs/D/properties/u/type",
                json!("integer"),
                "/$defs/D/properties/u/type: was \"string\" and is \"integer\"",
            ),
            (
                "/$defs/D/properties/u/maxLength",
                json!(8),
                "/$defs/D/properties/u/maxLength: was 9 and is 8",
            ),
            (
                "/$defs/D/properties/u/personal",
                json!(true),
                "/$defs/D/properties/u/personal: was not there and is true",
            ),
            (
                "/$defs/D",
                json!("GONE"),
                "/$defs/D: its $ref leads nowhere",
            ),
            (
                "/properties/b",
                json!({"enum": ["x"]}),
                "/properties/b: value \"y\" removed",
            ),
            (
                "/properties/c/minimum",
                json!("GONE"),
                "/properties/c/minimum: was 0 and is gone",
            ),
            (
                "/required",
                json!(["a", "c"]),
                "/properties/c: became required: stored facts may lack it",
            ),
            (
                "/required",
                json!(["a", "n/m"]),
                "/properties/n~1m: added as required: stored facts lack it",
            ),
            (
                "/required",
                json!([]),
                "/properties/a: was always there and now may be missing",
            ),
        ] {
            assert_eq!(changed(pointer, value), [told], "{pointer}");
        }
    }

    #[test]
    fn a_float_that_becomes_a_fraction_is_incompatible() {
        let media = |version| {
            let name = format!("asset.probed.v{version}.json");
            let mut all = crate::schemas::generated().into_iter();
            all.find(|(found, _)| *found == name).unwrap().1
        };
        let found = breaks(&media(1), &media(2));
        assert!(
            found.iter().all(|b| b
                .pointer
                .starts_with("/$defs/MediaFacts/properties/frame_rate"))
                && !found.is_empty(),
            "{found:?}"
        );
    }
}
