//! Who may not because it is somebody else's: two more columns of the matrix, another user of the same tenant and users of another
//! tenant. Each row is an operation that takes an id, asked about something of ana's. A new route that takes one fails until it has a row.

mod stage;

use reqwest::{Response, StatusCode};
use serde_json::Value;
use testing::report::tell;

use crate::app::App;
use crate::matrix::{Operation, ask, operations};
use stage::{PART, Stage, Things, filled};

/// The operation and what of ana's it is about; what another user of the tenant is told, what users of another tenant are told, and
/// ana's own status, which shows that the rest was asked for rightly; then the body, where the document's example does not do. Ana asks
/// last and in this order, so what takes away comes after what reads.
///
/// `no-` something: 404, it is not there. `forbidden`: 403. `invalid`: 422. `silent`: 204, and nothing happens. `empty`: a list of
/// nothing. `public`: it is for everybody in the tenant. `link`: the id itself is the right. All but the last two leave the log as it is.
/// Whoever is told `no-`, `silent` or `invalid` is told the same of ids that nobody has, so that no answer tells what there is; where it
/// does, there is a `~`: of what everybody may see.
const ROWS: &str = r#"
    GET    /v1/uploads/{open}                            no-upload         no-upload         200
    POST   /v1/uploads/{open}/parts                      no-upload         no-upload         200
    POST   /v1/uploads/{open}/complete                   no-upload         no-upload         409
    POST   /v1/uploads/{file}/complete                   no-upload         no-upload         202
    DELETE /v1/uploads/{open}                            no-upload         no-upload         204

    GET    /v1/assets/{file}                             no-asset          no-asset          200
    GET    /v1/assets/{file}/live                        no-asset          no-asset          200
    GET    /v1/assets/{file}/waveform                    no-rendition      no-rendition      307
    GET    /v1/assets/{file}/waveform?format=wavesurfer  no-rendition      no-rendition      200
    GET    /v1/assets/{file}/renditions/waveform.dat     no-rendition      no-rendition      307
    GET    /v1/assets/{shown}                            public            no-asset          200
    GET    /v1/assets/{shown}/renditions/waveform.dat    public            no-rendition      307
    GET    /v1/jobs/{job}                                no-job            no-job            200
    GET    /v1/jobs/{draft}                              no-job            no-job            200
    POST   /v1/jobs/{job}/retry                          no-job            no-job            204
    POST   /v1/jobs/{job}/cancel                         no-job            no-job            204
    POST   /v1/jobs/{draft}/cancel                       no-job            no-job            204
    POST   /v1/assets/{file}/renditions                  no-asset          no-asset          202
    POST   /v1/assets/{shown}/renditions                 no-asset          no-asset          202
    POST   /v1/posts                                     no-asset          no-asset          201 {"assets": ["{file}"]}
    POST   /v1/posts                                     no-asset          no-asset          201 {"assets": ["{shown}"]}
    DELETE /v1/assets/{file}                             no-asset          no-asset          204

    GET    /v1/posts/{hush}                              no-post           no-post           200
    GET    /v1/posts/{hush}/comments                     no-post           no-post           200
    GET    /v1/posts/{hush}/reactions                    no-post           no-post           200
    GET    /v1/posts/{talk}                              public            no-post           200
    GET    /v1/posts/{talk}/comments?parent={whisper}    public            no-post           200
    GET    /v1/posts/{talk}/reactions                    public            no-post           200
    GET    /v1/feed/hashtag/hush                         empty             empty             200
    GET    /v1/feed/hashtag/talk                         public            empty             200
    GET    /v1/search?q=nobody&author={ana}              empty             empty             200
    GET    /v1/search?q=talk&author={ana}                public            empty             200
    POST   /v1/posts/{hush}/comments                     no-post           no-post           201
    POST   /v1/posts/{talk}/comments                     ~no-comment       no-post           404 {"text": "?", "parent": "{whisper}"}
    POST   /v1/posts/{theirs}/comments                   no-post           no-comment        404 {"text": "?", "parent": "{said}"}
    POST   /v1/posts/{hush}/shares                       no-post           no-post           204
    POST   /v1/posts/{hush}/views                        no-post           no-post           202
    POST   /v1/posts/{hush}/reports                      no-post           no-post           409
    PUT    /v1/posts/{hush}/reactions/love               no-post           no-post           204
    DELETE /v1/posts/{hush}/reactions/like               no-post           no-post           204
    DELETE /v1/posts/{talk}/reactions/like               ~silent           no-post           204
    PATCH  /v1/posts/{hush}                              no-post           no-post           204
    PATCH  /v1/posts/{talk}                              forbidden         no-post           204

    GET    /v1/comments/{whisper}/reactions              no-comment        no-comment        200
    POST   /v1/comments/{whisper}/reports                no-comment        no-comment        409
    PUT    /v1/comments/{whisper}/reactions/love         no-comment        no-comment        204
    DELETE /v1/comments/{whisper}/reactions/like         no-comment        no-comment        204
    DELETE /v1/comments/{said}/reactions/like            ~silent           no-comment        204
    PATCH  /v1/comments/{whisper}                        no-comment        no-comment        204
    PATCH  /v1/comments/{said}                           forbidden         no-comment        204
    DELETE /v1/comments/{whisper}                        no-comment        no-comment        204
    DELETE /v1/comments/{said}                           forbidden         no-comment        204
    DELETE /v1/posts/{hush}                              no-post           no-post           204
    DELETE /v1/posts/{talk}                              forbidden         no-post           204

    GET    /v1/users/{ana}                               public            no-user           200
    GET    /v1/users/{ana}/posts                         public            no-user           200
    GET    /v1/users/{ana}/followers                     public            no-user           200
    GET    /v1/users/{ana}/followers?mutual=true         public            no-user           200
    GET    /v1/users/{ana}/following                     public            no-user           200
    DELETE /v1/users/{bob}/follow                        silent            silent            204
    PUT    /v1/users/{bob}/follow                        public            no-user           200
    DELETE /v1/users/{carl}/block                        silent            silent            204
    PUT    /v1/users/{carl}/block                        public            no-user           204
    DELETE /v1/users/{dora}/mute                         silent            silent            204
    PUT    /v1/users/{dora}/mute                         public            no-user           204
    PUT    /v1/follow-requests/{fay}                     no-follow-request no-follow-request 204
    DELETE /v1/follow-requests/{fred}                    silent            silent            204
    DELETE /v1/matches/{gus}                             silent            silent            204
    POST   /v1/matches/likes                             public            no-user           201 {"user": "{bob}"}
    POST   /v1/matches/passes                            public            no-user           204 {"user": "{dora}"}

    POST   /v1/moderation/hide                           forbidden         no-post           403 {"post": "{talk}", "reason": "spam"}
    POST   /v1/moderation/hide                           forbidden         no-comment        403 {"comment": "{said}", "reason": "spam"}
    POST   /v1/moderation/restore                        forbidden         no-post           403 {"post": "{talk}"}
    POST   /v1/moderation/restore                        forbidden         no-comment        403 {"comment": "{said}"}
    POST   /v1/moderation/restore                        forbidden         no-user           403 {"user": "{bob}"}
    POST   /v1/moderation/suspend                        forbidden         no-user           403 {"user": "{bob}", "reason": "spam"}
    DELETE /v1/api-keys/{key}                            no-api-key        no-api-key        204
    GET    /v1/erasures/{left}                           link              link              200
"#;

struct Row {
    line: &'static str,
    path: &'static str,
    operation: Operation,
    /// What another user of the tenant is told, and what users of another tenant are.
    told: [&'static str; 2],
    own: u16,
    /// The body, with words for ids.
    body: Option<String>,
}

impl Row {
    fn read(line: &'static str, operations: &[Operation]) -> Self {
        let (head, body) = match line.split_once(" {\"") {
            Some((head, body)) => (head, Some(format!("{{\"{body}"))),
            None => (line, None),
        };
        let [method, path, another, outsider, own] =
            head.split_whitespace().collect::<Vec<_>>()[..]
        else {
            panic!("{line}: five words are needed, and perhaps a body")
        };
        let asked = format!("{method} {path}");
        let operation = operations.iter().find(|one| fits(&one.name, &asked));
        let operation =
            operation.unwrap_or_else(|| panic!("there is no {asked}: the row is of no operation"));
        let body = body.or_else(|| operation.body.as_ref().map(Value::to_string));
        Self {
            operation: operation.clone(),
            told: [another, outsider],
            own: own.parse().unwrap(),
            line,
            path,
            body,
        }
    }

    /// The operation about these things.
    fn about(&self, things: &Things) -> Operation {
        let mut operation = self.operation.clone();
        operation.path = filled(self.path, things);
        assert!(
            !operation.path.contains('{'),
            "{}: what is it about?",
            self.line
        );
        let body = self.body.as_ref().map(|body| filled(body, things));
        operation.body = body.map(|body| serde_json::from_str(&body).unwrap());
        operation
    }
}

fn rows(operations: &[Operation]) -> Vec<Row> {
    let lines = ROWS.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| Row::read(line, operations)).collect()
}

/// Whether a row is of the operation of this name.
fn fits(name: &str, asked: &str) -> bool {
    let path = asked.split_once('?').map_or(asked, |(path, _)| path);
    let (name, path): (Vec<_>, Vec<_>) = (name.split('/').collect(), path.split('/').collect());
    let same = |(said, asked): (&&str, &&str)| said == asked || said.starts_with('{');
    name.len() == path.len() && name.iter().zip(&path).all(same)
}

/// Whether an operation is about something that is named by an id: in its path, its query or its body.
fn takes_an_id(document: &Value, operation: &Operation) -> bool {
    let (method, path) = operation.name.split_once(' ').unwrap();
    let operation = &document["paths"][path][method.to_lowercase()];
    let asked = [&operation["parameters"], &operation["requestBody"]];
    // What is signed needs nobody to say who they are; uploads.rs and names.rs show others' keys.
    if path.starts_with("/storage/") {
        return false;
    }
    path.contains('{') || asked.iter().any(|part| has_an_id(document, part))
}

fn has_an_id(document: &Value, part: &Value) -> bool {
    match part {
        Value::Object(fields) => {
            let named = fields.get("$ref").and_then(Value::as_str);
            let named = named.and_then(|name| document.pointer(name.trim_start_matches('#')));
            fields.get("format").is_some_and(|format| format == "uuid")
                || fields
                    .values()
                    .chain(named)
                    .any(|part| has_an_id(document, part))
        }
        Value::Array(parts) => parts.iter().any(|part| has_an_id(document, part)),
        _ => false,
    }
}

#[test]
fn every_operation_that_takes_an_id_has_a_row() {
    let (document, operations) = (serde_json::to_value(api::document()).unwrap(), operations());
    let rows = rows(&operations);
    let has_row =
        |operation: &Operation| rows.iter().any(|row| row.operation.name == operation.name);
    let takes = |operation: &&Operation| takes_an_id(&document, operation);
    let missing = operations
        .iter()
        .filter(takes)
        .filter(|operation| !has_row(operation));
    let missing: Vec<&str> = missing.map(|operation| &*operation.name).collect();
    assert!(missing.is_empty(), "no row says who may not: {missing:?}");
}

/// What somebody was told.
struct Told {
    status: StatusCode,
    /// In the words of the table.
    word: String,
    text: String,
}

impl Told {
    async fn of(answer: Response) -> Self {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let kind = headers
            .get("content-type")
            .map(|kind| kind.to_str().unwrap());
        // A stream does not end.
        let text = match kind {
            Some("text/event-stream") => String::new(),
            _ => answer.text().await.unwrap(),
        };
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let slug = body["type"]
            .as_str()
            .and_then(|name| name.strip_prefix("/problems/"));
        let word = match (status.as_u16(), slug) {
            (404, Some(slug)) => format!("no-{}", slug.strip_suffix("-not-found").unwrap_or(slug)),
            (403, Some("forbidden")) => "forbidden".to_owned(),
            (422, Some("invalid-field")) => "invalid".to_owned(),
            (204, None) => "silent".to_owned(),
            (200, None) if body["items"] == serde_json::json!([]) => "empty".to_owned(),
            _ => format!("{status} {}", slug.unwrap_or_default()),
        };
        Self { status, word, text }
    }

    fn is(&self, expected: &str) -> bool {
        match expected {
            "public" | "link" => self.status.is_success() || self.status.is_redirection(),
            word => self.word == word,
        }
    }
}

/// What is wrong with what somebody who has nothing to do with ana is told.
async fn wrong(
    app: &App,
    stage: &Stage<'_>,
    row: &Row,
    (token, column): (&str, usize),
) -> Vec<String> {
    let expected = row.told[column];
    let word = expected.trim_start_matches('~');
    let head = app.head().await;
    let told = Told::of(ask(app, &row.about(&stage.things), Some(token)).await).await;
    let mut wrong = vec![];
    let right = told.is(word);
    if !right {
        wrong.push(format!("is told {}", told.word));
    }
    if stage
        .secrets
        .iter()
        .any(|secret| told.text.contains(secret))
    {
        wrong.push(format!("is told what is for nobody else: {}", told.text));
    }
    if ["public", "link"].contains(&word) {
        return wrong;
    }
    if app.head().await != head {
        wrong.push("had something happen".to_owned());
    }
    if right && (word.starts_with("no-") || ["silent", "invalid"].contains(&word)) {
        let nobodys = row.about(&stage.nobodys());
        let same = Told::of(ask(app, &nobodys, Some(token)).await).await;
        if (same.word == told.word) == expected.starts_with('~') {
            wrong.push(format!("is told {} of what there is not", same.word));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_somebody_elses_is_not_there_and_stays_as_it_is() {
    let app = App::start_on_s3_with(&["--upload-part-bytes", &PART.to_string()]).await;
    let stage = Box::pin(Stage::set(&app)).await;
    let rows = rows(&operations());
    let before = stage.kept().await;
    let strangers = [
        ("another user", &stage.eve, 0),
        ("a user of another tenant", &stage.zoe, 1),
        ("the same user of another tenant", &stage.twin, 1),
    ];
    let mut failed = vec![];
    for (who, user, column) in strangers {
        for row in &rows {
            let wrong = wrong(&app, &stage, row, (&user.token, column)).await;
            failed.extend(wrong.iter().map(|why| format!("{}: {who} {why}", row.line)));
        }
    }
    assert!(
        failed.is_empty(),
        "{} cells are wrong:\n{}",
        failed.len(),
        failed.join("\n")
    );
    app.level().await;
    let after = stage.kept().await;
    for (path, kept) in before {
        assert_eq!(after[path], kept, "{path}");
    }
    assert!(stage.machine_works().await);
    for row in &rows {
        let answer = ask(&app, &row.about(&stage.things), Some(&stage.ana.token)).await;
        assert_eq!(answer.status().as_u16(), row.own, "{}: ana", row.line);
    }
    tell(format_args!(
        "{} cells: {} rows, 3 who may not, and ana",
        rows.len() * 4,
        rows.len()
    ));
}
