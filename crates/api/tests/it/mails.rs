//! Mails that leave by SMTP, and one that the server puts off.

use reqwest::{Response, StatusCode};
use serde_json::json;
use service::shutdown::Shutdown;
use testing::wait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::accounts::{PASSWORD, code, let_in, mails_left, sent};
use crate::app::{App, SOON};

const ANA: &str = "ana@example.org";
const TAKEN: &str = "250 taken";

/// What a client sends, line by line.
type Lines = tokio::io::Lines<BufReader<TcpStream>>;
/// What a client wanted: for whom its mail is, as it said it, and the mail itself, if the client was let go on to it.
type Heard = (String, Option<String>);

/// A mail server, which talks to one client at a time.
struct MailServer {
    url: String,
    /// What it answers who says for whom a mail is, one after the other; it waits until it is told.
    answers: UnboundedSender<&'static str>,
    heard: UnboundedReceiver<Heard>,
    shutdown: Shutdown,
}

impl MailServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let (answers, mut told) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        let shutdown = Shutdown::new();
        let end = shutdown.clone();
        shutdown.spawn(async move {
            let serving = async {
                while let Ok((socket, _)) = listener.accept().await {
                    tell.send(converse(socket, &mut told).await).ok();
                }
            };
            tokio::select! {
                () = serving => {}
                () = end.cancelled() => {}
            }
        });
        Self {
            url,
            answers,
            heard,
            shutdown,
        }
    }

    /// An API that sends its mails here.
    async fn app(&self) -> App {
        App::start_with(&["--mail", &self.url]).await
    }

    fn answers(&self, answer: &'static str) {
        self.answers.send(answer).unwrap();
    }

    /// What the next client wanted.
    async fn hears(&mut self) -> Heard {
        let heard = tokio::time::timeout(SOON, self.heard.recv()).await;
        heard.expect("a mail comes").unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Talks to a client until it hangs up (RFC 5321).
async fn converse(socket: TcpStream, told: &mut UnboundedReceiver<&'static str>) -> Heard {
    let mut lines = BufReader::new(socket).lines();
    let (mut to, mut mail) = (String::new(), None);
    let mut answer = "220 there";
    loop {
        say(&mut lines, answer).await;
        let Ok(Some(line)) = lines.next_line().await else {
            return (to, mail);
        };
        answer = match line.split(' ').next().unwrap_or_default() {
            "RCPT" => {
                line.clone_into(&mut to);
                told.recv().await.unwrap_or("421 gone")
            }
            "DATA" => {
                say(&mut lines, "354 go on").await;
                mail = Some(take_in(&mut lines).await);
                TAKEN
            }
            "QUIT" => "221 bye",
            _ => "250 there",
        };
    }
}

/// Who has hung up is not answered.
async fn say(lines: &mut Lines, answer: &str) {
    let answer = format!("{answer}\r\n");
    lines.get_mut().write_all(answer.as_bytes()).await.ok();
}

/// A mail goes on until a line that is a dot; of others that begin with one, it is not the mail's.
async fn take_in(lines: &mut Lines) -> String {
    let mut mail = String::new();
    while let Ok(Some(line)) = lines.next_line().await
        && line != "."
    {
        mail.push_str(line.strip_prefix('.').unwrap_or(&line));
        mail.push_str("\r\n");
    }
    mail
}

async fn registers(app: &App) -> Response {
    let body = json!({"handle": "ana", "password": PASSWORD, "email": ANA});
    sent(app, "register", body).await
}

/// The mail is for her, its code proves that she reads it, and it is the only one.
async fn is_the_one(app: &App, server: &mut MailServer, (to, mail): Heard) {
    assert_eq!(to, format!("RCPT TO:<{ANA}>"));
    let mail = mail.expect("the mail itself");
    assert!(mail.contains(&format!("To: {ANA}\r\n")), "{mail}");
    let proof = json!({"code": code(&mail)});
    let proven = sent(app, "verify", proof).await;
    assert_eq!(proven.status(), StatusCode::NO_CONTENT, "{mail}");
    wait::until_true(SOON, "no mail is left", async || {
        mails_left(&app.owner).await == 0
    })
    .await;
    let more = server.heard.try_recv();
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_mail_server_gets_the_mail_that_proves_an_address() {
    let mut server = MailServer::start().await;
    let app = server.app().await;
    server.answers(TAKEN);
    let_in(registers(&app).await).await;
    let heard = server.hears().await;
    is_the_one(&app, &mut server, heard).await;
}

#[tokio::test]
async fn a_mail_that_is_put_off_comes_once_and_holds_up_nobody() {
    let mut server = MailServer::start().await;
    let app = server.app().await;
    // The server has not said yet whether it takes the mail.
    let registered = tokio::time::timeout(SOON, registers(&app)).await;
    let ana = let_in(registered.expect("nobody waits for the mail server")).await;
    assert_eq!(ana.body["verified"], false);
    server.answers("451 4.7.1 not now");
    assert_eq!(server.hears().await, (format!("RCPT TO:<{ANA}>"), None));

    let tried: (i32, bool) =
        sqlx::query_as("SELECT tries, next_at > now() + interval '30 seconds' FROM accounts.mails")
            .fetch_one(&app.owner)
            .await
            .unwrap();
    assert_eq!(tried, (1, true), "it is left alone for a while");
    let due = sqlx::query("UPDATE accounts.mails SET next_at = now()")
        .execute(&app.owner)
        .await
        .unwrap();
    assert_eq!(due.rows_affected(), 1);
    server.answers(TAKEN);
    let heard = server.hears().await;
    is_the_one(&app, &mut server, heard).await;
}
