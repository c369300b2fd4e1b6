//! The published schemas are those of the code. `UPDATE=1 cargo test -p events --test it schemas` rewrites them.

use std::collections::BTreeSet;
use std::fs;

use events::fact::Fact;
use serde_json::{Value, json};
use testing::environment;

fn document(fact_type: &str, version: i16, schema: schemars::Schema) -> String {
    let mut schema: Value = schema.into();
    schema["$id"] = json!(format!("{fact_type}.v{version}.json"));
    schema["title"] = json!(fact_type);
    format!("{}\n", serde_json::to_string_pretty(&schema).unwrap())
}

#[test]
fn schemas_are_published_as_they_are() {
    let folder = environment::root().join("schemas/events");
    let mut names = BTreeSet::new();
    for (fact_type, version, schema) in Fact::schemas() {
        let name = format!("{fact_type}.v{version}.json");
        let (path, text) = (folder.join(&name), document(fact_type, version, schema));
        if environment::optional("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            published, text,
            "{name} is out of date: run again with UPDATE=1"
        );
        names.insert(name);
    }
    let there: BTreeSet<_> = fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, names, "one schema per fact and version, no more");
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
