//! The very statements that reads were seen to send, sent by pgbench, which looks at no answer.

use std::fmt::Write;

use projectors::page::Viewer;
use sqlx::PgPool;
use tempfile::TempPath;
use tokio::process::Command;

use crate::pages::LIMIT;
use crate::support::World;

/// A statement, and the types of its parameters.
pub(crate) type Statement = (String, Vec<String>);

/// What was sent over the one connection of `pool` so far: what is prepared there.
pub(crate) async fn sent(pool: &PgPool) -> Vec<Statement> {
    sqlx::query_as(
        "SELECT statement, parameter_types::text[] FROM pg_prepared_statements
         WHERE statement NOT LIKE '%pg_prepared_statements%' ORDER BY prepare_time",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// A file with these statements in a transaction of the viewer's; with each, the ids that go in place of a list.
pub(crate) fn script(viewer: Viewer, statements: &[(Statement, String)]) -> TempPath {
    let (tenant, user) = (viewer.tenant, viewer.user);
    let mut script = format!(
        "BEGIN;\nSELECT set_config('app.tenant', '{tenant}', true), set_config('app.user', '{user}', true);\n"
    );
    for (statement, ids) in statements {
        writeln!(script, "{};", bound(statement, viewer, ids)).unwrap();
    }
    script.push_str("ROLLBACK;\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    file.into_temp_path()
}

/// A statement with its parameters in place: tenant and user, where the page begins and how long it is, and the ids of what is
/// looked up.
fn bound((statement, types): &Statement, viewer: Viewer, ids: &str) -> String {
    let (tenant, user) = (format!("'{}'", viewer.tenant), format!("'{}'", viewer.user));
    let mut people = [tenant, user].into_iter();
    let mut numbers = [i64::MAX.to_string(), (LIMIT + 1).to_string()].into_iter();
    let mut text = statement.clone();
    for (n, sort) in types.iter().enumerate() {
        let value = match &**sort {
            "bigint" => numbers.next(),
            "uuid[]" => Some(format!("'{ids}'")),
            _ => people.next(),
        };
        let value = value.expect("the statements take what this bench knows of");
        text = text.replace(&format!("${}", n + 1), &format!("{value}::{sort}"));
    }
    assert!(!text.contains('$'), "{text}");
    text
}

/// Transactions a second of `clients` that run a script each, any of them, with the rights of `role`.
pub(crate) async fn rate(
    world: &World,
    role: &str,
    scripts: &[TempPath],
    (clients, seconds): (u32, u32),
) -> f64 {
    let mut command = Command::new("pgbench");
    command.args(["--no-vacuum", "--protocol=prepared"]);
    command.arg(format!("--jobs={}", clients.min(2)));
    command.arg(format!("--client={clients}"));
    command.arg(format!("--time={seconds}"));
    for path in scripts {
        command.arg("--file").arg(path);
    }
    command.arg(world.database.url().expose());
    // As processes connect, see `service::db::connect`.
    let options = format!("-c role={role} -c jit=off -c random_page_cost=1.1");
    command.env("PGOPTIONS", options);
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{failed}");
    let rate = told.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|line| line.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("{told}"))
}
