//! Where someone looks for something, and whether it is there.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::stage::{Scene, Stage};

/// Places to look, each a line: its name, what is asked for, and of a list, whose id is looked for and where in an item it is. `{w}`
/// stands for the situation, `{n}` for where it is, `{p}`, `{a}` and `{u}` for the post, its asset and its author, `{q}` and `{o}` for
/// the post of somebody else, and for them.
const PLACES: &str = "
    feed  GET /v1/feed                                 {p} /id
    top   GET /v1/feed?order=top                       {p} /id
    tag   GET /v1/feed/hashtag/{w}                     {p} /id
    near  GET /v1/feed/nearby?lat={n}&lon=0            {p} /id
    find  GET /v1/search?kind=post&q={w}               {p} /post/id
    post  GET /v1/posts/{p}
    list  GET /v1/users/{u}/posts                      {p} /id
    said  GET /v1/posts/{p}/comments                   {u} /author/id
    act   PUT /v1/posts/{p}/reactions/like
    view  POST /v1/posts/{p}/views
    asset GET /v1/assets/{a}
    file  GET /v1/assets/{a}/renditions/waveform.dat
    told  GET /v1/notifications                        {p} /post
    user  GET /v1/users/{u}
    name  GET /v1/search?kind=person&q={w}             {u} /person/id
    type  GET /v1/search/complete?q={w}                {u} /id
    knows GET /v1/users/{o}/following                  {u} /id
    maybe GET /v1/suggestions                          {u} /id
    else  GET /v1/posts/{q}/comments                   {u} /author/id
    liked GET /v1/posts/{q}/reactions                  {u} /user/id
    cand  GET /v1/matches/candidates                   {u} /id
    star  GET /v1/matches/likes                        {u} /id
    match GET /v1/matches                              {u} /id
";

/// What is not there for whoever may not see it.
const NOT_THERE: [&str; 4] = [
    "post-not-found",
    "user-not-found",
    "asset-not-found",
    "rendition-not-found",
];

/// Someone who looks. What was read is not read again, whatever is looked for in it.
pub(super) struct Eye<'a> {
    stage: &'a Stage<'a>,
    who: &'static str,
    read: BTreeMap<(Option<String>, String), (StatusCode, Value)>,
}

impl<'a> Eye<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, who: &'static str) -> Self {
        let read = BTreeMap::new();
        Self { stage, who, read }
    }

    /// Whether what there is in a situation is seen in a place; an error when the answer is neither.
    pub(super) async fn look(&mut self, what: &str, place: &str) -> Result<bool, String> {
        let scene = &self.stage.scenes[what];
        let mut lines = PLACES.trim().lines().map(str::split_whitespace);
        let line = lines.find_map(|mut line| (line.next() == Some(place)).then_some(line));
        let mut line = line.unwrap_or_else(|| panic!("there is no {place}"));
        let mut next = || line.next().map(|part| self.filled(scene, part));
        let (method, path) = (next().unwrap(), next().unwrap());
        let (id, pointer) = (next(), next());
        // A completion is no list of pages.
        let path = match (&id, path.contains('?')) {
            (Some(_), _) if place == "type" => path,
            (Some(_), true) => format!("{path}&limit=100"),
            (Some(_), false) => format!("{path}?limit=100"),
            (None, _) => path,
        };
        let (status, body) = self.ask(scene, method.parse().unwrap(), path).await;
        if status.is_client_error() || status.is_server_error() {
            return self.refused(status, &body);
        }
        let (Some(id), Some(pointer)) = (id, pointer) else {
            return Ok(true);
        };
        let items = body.get("items").unwrap_or(&body["people"]);
        let items = items.as_array().ok_or_else(|| body.to_string())?;
        // Of a comment, its place alone does not count.
        let said = |item: &Value| pointer != "/author/id" || item["text"].is_string();
        let is_it = |item: &&Value| item.pointer(&pointer).is_some_and(|one| *one == *id);
        Ok(items.iter().filter(is_it).any(said))
    }

    fn filled(&self, scene: &Scene<'_>, part: &str) -> String {
        part.replace("{w}", scene.what)
            .replace("{n}", &scene.latitude.to_string())
            .replace("{p}", &scene.post)
            .replace("{a}", &scene.asset)
            .replace("{u}", &scene.author.id.to_string())
            .replace("{q}", &self.stage.other_post)
            .replace("{o}", &self.stage.other.id.to_string())
    }

    /// What is not there is not found, nobody is told to say who they are, and who is suspended that they are.
    fn refused(&self, status: StatusCode, body: &Value) -> Result<bool, String> {
        let slug = body["type"].as_str().unwrap_or_default();
        let known = match slug.trim_start_matches("/problems/") {
            "token-missing" => self.who == "nobody",
            "account-suspended" => ["author", "stopped"].contains(&self.who),
            slug => self.who != "nobody" && NOT_THERE.contains(&slug),
        };
        if known {
            Ok(false)
        } else {
            Err(format!("{status} {body}"))
        }
    }

    async fn ask(
        &mut self,
        scene: &Scene<'_>,
        method: Method,
        path: String,
    ) -> (StatusCode, Value) {
        let (app, token) = (self.stage.app, self.stage.token(self.who, scene));
        let key = (token, path);
        if let Some(read) = self.read.get(&key) {
            return read.clone();
        }
        let request = app.http.request(method, format!("{}{}", app.url, key.1));
        let request = match &key.0 {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        let read = (status, serde_json::from_str(&text).unwrap_or_default());
        self.read.entry(key).or_insert(read).clone()
    }
}
