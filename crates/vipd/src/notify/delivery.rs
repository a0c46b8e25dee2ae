//! One event is told: a program runs, or an HTTP server gets a POST.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use health::program::{self, End, Program, Surroundings};
use reqwest::redirect::Policy;
use serde_json::Value;
use tokio::time::Instant;

use super::Told;
use crate::config::{Notify, NotifyBy, Webhook};
use crate::events::{Event, Kind};
use crate::status::rfc3339;

/// As much of a text as a program gets as a variable, bytes: the kernel refuses long ones
/// (`MAX_ARG_STRLEN`), and all of it is on the standard input.
const VARIABLE_MAX: usize = 16 << 10;

/// How an entry tells, ready to be used.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Command(Arc<Program>, bool),
    Webhook(Result<Arc<Post>, String>),
}

#[derive(Debug)]
pub(super) struct Post {
    client: reqwest::Client,
    webhook: Webhook,
}

impl Way {
    pub(super) fn of(config: &Notify) -> Way {
        match &config.by {
            NotifyBy::Command {
                program,
                keepalived_arguments,
            } => Way::Command(Arc::new(program.clone()), *keepalived_arguments),
            NotifyBy::Webhook(webhook) => {
                Way::Webhook(Post::new(webhook, config.timeout).map(Arc::new))
            }
        }
    }

    /// Tells of an event.
    ///
    /// # Errors
    ///
    /// In words, none of which is the URL of a webhook.
    pub(super) async fn tell(
        &self,
        config: &Notify,
        director: &str,
        event: &Event,
    ) -> Result<(), String> {
        let body = serde_json::to_vec(&Told { director, event });
        let body = body.map_err(|error| error.to_string())?;
        match self {
            Way::Command(program, keepalived) => {
                let mut program = Program::clone(program);
                if *keepalived {
                    let arguments = keepalived_arguments(event).unwrap_or_default();
                    program.command.extend(arguments);
                }
                run(&program, config.timeout, director, event, body).await
            }
            Way::Webhook(Ok(post)) => post.send(body).await,
            Way::Webhook(Err(why)) => Err(why.clone()),
        }
    }
}

/// Runs the program until nothing is left of it.
async fn run(
    program: &Program,
    timeout: Duration,
    director: &str,
    event: &Event,
    input: Vec<u8>,
) -> Result<(), String> {
    let surroundings = Surroundings {
        environment: environment(director, event),
        first_line: false,
        input,
    };
    let mut end = None;
    let deadline = Instant::now() + timeout;
    program::run(program, &surroundings, deadline, |how| end = Some(how)).await;
    let path = program.command.first().map_or("", String::as_str);
    match end {
        Some(End::Exited { status: 0, .. }) => Ok(()),
        Some(End::Exited { status, .. }) => Err(format!("{path}: exit status {status}")),
        Some(End::Killed(signal)) => Err(format!("{path}: killed by signal {signal}")),
        Some(End::TimedOut) => Err(format!(
            "{path}: not done in {}, killed",
            humantime::format_duration(timeout)
        )),
        Some(End::NotStarted(why) | End::NoResources(why)) => Err(why),
        None => Err(format!("{path}: it is not known how it ended")),
    }
}

fn environment(director: &str, event: &Event) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("VIPD_DIRECTOR", director.to_owned()),
        ("VIPD_ID", event.id.to_string()),
        ("VIPD_AT", rfc3339(event.at)),
        ("VIPD_EVENT", event.kind.to_string()),
        ("VIPD_OBJECT", event.object.clone()),
        ("VIPD_MESSAGE", event.message.clone()),
        ("VIPD_CAUSE", event.cause.clone()),
        ("VIPD_CONSEQUENCE", event.consequence.to_string()),
    ];
    for (name, field) in [
        ("VIPD_PRIORITY", "priority"),
        ("VIPD_FROM", "from"),
        ("VIPD_VIRTUAL_SERVER", "virtual_server"),
        ("VIPD_REAL_SERVER", "real_server"),
    ] {
        match event.fields.get(field) {
            Some(Value::String(text)) => variables.push((name, text.clone())),
            Some(value) => variables.push((name, value.to_string())),
            None => {}
        }
    }
    for (_, text) in &mut variables {
        *text = variable(text);
    }
    variables
}

/// A text as it may stand in the environment.
fn variable(text: &str) -> String {
    let mut end = text.len().min(VARIABLE_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().replace('\0', " ")
}

/// What keepalived's `notify` scripts get behind their own arguments: type, name, state, priority.
/// `None`: it would not run them.
pub(super) fn keepalived_arguments(event: &Event) -> Option<[String; 4]> {
    let field = |name| event.fields.get(name);
    const INSTANCE: &str = "INSTANCE";
    const GROUP: &str = "GROUP";
    let states = [
        (Kind::VrrpMaster, INSTANCE, "MASTER"),
        (Kind::VrrpBackup, INSTANCE, "BACKUP"),
        (Kind::VrrpFault, INSTANCE, "FAULT"),
        (Kind::VrrpInitialize, INSTANCE, "STOP"),
        (Kind::SyncGroupMaster, GROUP, "MASTER"),
        (Kind::SyncGroupBackup, GROUP, "BACKUP"),
        (Kind::SyncGroupFault, GROUP, "FAULT"),
        (Kind::SyncGroupInitialize, GROUP, "STOP"),
    ];
    let mut states = states.into_iter();
    let (kind, what, state) = states.find(|(kind, _, _)| kind.name() == event.kind)?;
    // A router that begins has not been anything else.
    let begins = field("from").and_then(Value::as_str) == Some("initialize");
    if kind == Kind::VrrpInitialize && begins {
        return None;
    }
    let priority = field("priority").and_then(Value::as_u64).unwrap_or(0);
    Some([
        what.to_owned(),
        event.object.clone(),
        state.to_owned(),
        priority.to_string(),
    ])
}

impl Post {
    fn new(webhook: &Webhook, timeout: Duration) -> Result<Post, String> {
        // The second time it is there already.
        let _there = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .pool_max_idle_per_host(0)
            .timeout(timeout)
            .user_agent(concat!("vipd/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Post {
            client: client.map_err(|error| format!("webhook: {}", words(error)))?,
            webhook: webhook.clone(),
        })
    }

    async fn send(&self, body: Vec<u8>) -> Result<(), String> {
        let mut request = self
            .client
            .post(&self.webhook.url)
            .header("content-type", "application/json")
            .body(body);
        for (name, value) in &self.webhook.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| format!("webhook: {}", words(error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("webhook: answered {status}"))
    }
}

/// What went wrong and why, without the URL.
fn words(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        text = format!("{text}: {deeper}");
        source = deeper.source();
    }
    text
}
