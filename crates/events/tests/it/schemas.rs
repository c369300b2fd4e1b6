//! The published schemas are those of the code, and a released one changes only in ways that readers do not notice.
//! `make docs` writes them again.

mod compatible;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use events::fact::Fact;
use serde_json::{Value, json};
use testing::environment;

use compatible::{Break, breaks};

/// Every schema as it is published: file name and document.
pub(crate) fn generated() -> Vec<(String, Value)> {
    let document = |(fact_type, version, schema): (&str, i16, schemars::Schema)| {
        let name = format!("{fact_type}.v{version}.json");
        let mut schema: Value = schema.into();
        schema["$id"] = json!(name);
        schema["title"] = json!(fact_type);
        (name, schema)
    };
    Fact::schemas().into_iter().map(document).collect()
}

pub(crate) fn folder() -> PathBuf {
    environment::root().join("schemas/events")
}

/// What to do about a schema that is not as published.
fn advice(name: &str, published: Option<&Value>, broken: &[Break]) -> String {
    if published.is_none() {
        return format!("{name} is not published yet: run `make docs`");
    }
    if broken.is_empty() {
        return format!(
            "{name} changed in a way that no reader notices: run `make docs` to publish it"
        );
    }
    let list: Vec<String> = broken.iter().map(ToString::to_string).collect();
    format!(
        "{name} is released and changed incompatibly:\n  {}\nFacts of this shape are in logs and readers rely on it. \
         Put it back, and make the next version with an upcaster: see docs/event-evolution.md. \
         (Is it in no release yet? Then delete the file and run `make docs`.)",
        list.join("\n  ")
    )
}

#[test]
fn the_generated_schemas_are_published_as_they_are() {
    let mut complaints = vec![];
    for (name, schema) in generated() {
        let path = folder().join(&name);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        let there = fs::read_to_string(&path).ok();
        if there.as_deref() == Some(&text) {
            continue;
        }
        let published: Option<Value> = there.map(|text| serde_json::from_str(&text).unwrap());
        let broken = published
            .as_ref()
            .map_or(vec![], |published| breaks(published, &schema));
        if environment::optional("UPDATE").is_some() && broken.is_empty() {
            fs::write(&path, &text).unwrap();
        } else {
            complaints.push(advice(&name, published.as_ref(), &broken));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn there_is_one_schema_per_fact_and_version_and_no_more() {
    let names: BTreeSet<_> = generated().into_iter().map(|(name, _)| name).collect();
    let there: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    let gone: Vec<_> = there.difference(&names).collect();
    assert!(
        gone.is_empty(),
        "\n{gone:?}: published, and no type of the code has this schema any more. The log is full of such facts, and nobody \
         could read them: bring the type back, or its version's step in `upcast`; if it was never published, delete the \
         file. See docs/event-evolution.md.\n"
    );
    assert_eq!(there, names, "`make docs` writes those that are missing");
}

#[test]
fn a_changed_schema_is_told_with_what_to_do() {
    let old = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let new = json!({"type": "object", "properties": {}});
    let told = advice("x.done.v1.json", Some(&old), &breaks(&old, &new));
    for part in [
        "x.done.v1.json",
        "/properties/a: removed",
        "next version",
        "docs/event-evolution.md",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(advice("x", Some(&old), &[]).contains("make docs"));
    assert!(advice("x", None, &[]).contains("not published yet"));
}

#[test]
fn every_schema_marks_its_personal_fields() {
    let personal = |fact_type: &str| {
        let (.., schema) = Fact::schemas()
            .into_iter()
            .find(|(t, ..)| *t == fact_type)
            .unwrap();
        serde_json::to_string(&schema)
            .unwrap()
            .contains("\"personal\":true")
    };
    assert!(personal("post.published") && personal("comment.added") && personal("profile.updated"));
    assert!(!personal("reaction.added") && !personal("follow.started"));
}
