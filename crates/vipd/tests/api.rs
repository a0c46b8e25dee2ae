//! The OpenAPI document is what the code does: its paths and methods are those of the routes, and every
//! answer, also of an error, is as it says.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;
use vipd::config::Config;
use vipd::control::checks::{Checked, CheckedOnce, CheckedServer, CheckedStep};
use vipd::control::server::config::Planned;
use vipd::control::server::{Api, control, public};
use vipd::debug::{Bundle, Section};
use vipd::director_loop::Wake;
use vipd::director_loop::reload::{self, InForce};
use vipd::doctor::{Finding, Key, Remedy, Report, Severity};
use vipd::events::{Details, Events, Fields, Kind};
use vipd::ipvs_view::{
    ConnectionView, DaemonView, PersistenceView, RealServerView, ServiceView, TimeoutsView,
    TunnelView, View,
};
use vipd::overrides;
use vipd::plan::{Change, Plan, Risk};
use vipd::reconcile::Reconciler;
use vipd::status::{
    AllFailingStatus, AskedStatus, ConflictStatus, ConnectionsStatus, IncompatibleStatus,
    MasterStatus, ReloadStatus, ShortageStatus, Status, SyncPeerStatus, SyncStatus, TrackStatus,
    TrafficStatus,
};
use vipd::upgrade::Upgraded;

use self::fixture::healthy;

const DOCUMENT: &str = "crates/vipd/src/control/openapi.json";

#[test]
fn the_document_has_the_routes_of_the_code_and_no_others() {
    let mut routes = BTreeSet::new();
    read_routes(&source("control"), &mut routes);
    assert!(routes.len() > 10, "{routes:?}");
    let document = document();
    let documented: BTreeSet<(String, String)> = operations(&document)
        .map(|(path, method, _)| (path.to_owned(), method.to_owned()))
        .collect();
    let lacking: Vec<_> = routes.difference(&documented).collect();
    assert!(
        lacking.is_empty(),
        "{DOCUMENT} lacks these: add them under \"paths\", with the schemas of their bodies and answers \
         under \"components\", and a request below in `answers_are_as_the_document_says`: {lacking:?}"
    );
    let gone: Vec<_> = documented.difference(&routes).collect();
    assert!(
        gone.is_empty(),
        "{DOCUMENT} has these and the code has not: {gone:?}"
    );
}

#[tokio::test]
async fn each_listener_has_exactly_the_paths_that_the_document_gives_it() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let path = path.replace("{name}", "x").replace("{address}", "y");
        for (listener, routes) in [("unix", control(api())), ("tcp", public(api()))] {
            let (status, answer) = ask(routes, method, &path, None).await;
            let there = answer["error"]["code"] != "not_found";
            let listeners = operation["x-listeners"].as_array().unwrap();
            assert_eq!(
                there,
                listeners.contains(&listener.into()),
                "{listener} {method} {path}: {status} {answer}; x-listeners in {DOCUMENT}"
            );
            let reads = method == "get";
            assert!(listener == "unix" || !there || reads, "{path} on tcp");
        }
    }
}

#[tokio::test]
async fn who_accepts_plain_text_alone_gets_the_page_and_everybody_else_json() {
    let ask = async |accept: &str, query: &str| {
        let request = Request::builder()
            .uri(format!("/v1/status{query}"))
            .header("accept", accept);
        let request = request.body(Body::empty()).unwrap();
        let response = public(api()).oneshot(request).await.unwrap();
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        let body = to_bytes(response.into_body(), 4 << 20).await.unwrap();
        (kind, String::from_utf8(body.to_vec()).unwrap())
    };
    let (kind, page) = ask("text/plain", "").await;
    assert_eq!(kind, "text/plain; charset=utf-8");
    assert!(page.starts_with("lb1  vipd "), "{page}");
    let wide = page.lines().map(str::len).max().unwrap();
    let (_, page) = ask("text/plain", "?width=60&color=true").await;
    let plain = page.replace("\x1b[", "\x1b").len();
    assert!(plain < page.len() && wide > 60, "{page}");
    for accept in ["*/*", "application/json, text/plain, */*", "text/html"] {
        let (kind, text) = ask(accept, "?color=true").await;
        assert_eq!(kind, "application/json", "{accept}");
        assert!(text.starts_with('{'), "{text}");
    }
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    const WEB: &str = "/v1/vrrp/{name}/switchover";
    const REAL: &str = "/v1/virtual_servers/{name}/real_servers/{address}";
    const CHECK: &str = "/v1/virtual_servers/{name}/check";
    let document = document();
    let mut seen = BTreeSet::new();
    let dead = || Api {
        director: mpsc::unbounded_channel().0,
        ..api()
    };
    let lost = api();
    let happened = Details {
        cause: Some("silence".to_owned()),
        fields: Fields::of([("priority", 150.into())]),
    };
    lost.events
        .record_with(Kind::VrrpMaster, "web", "master, was backup", happened);
    for (api, method, template, path, body, wanted) in [
        (lost, "get", "/v1/events", "/v1/events?limit=5", None, 200),
        (api(), "get", "/v1/events", "/v1/events?limit=x", None, 400),
        (api(), "get", "/v1/status", "/v1/status", None, 200),
        (
            api(),
            "get",
            "/v1/status",
            "/v1/status?width=wide",
            None,
            400,
        ),
        (dead(), "get", "/v1/status", "/v1/status", None, 503),
        (
            api(),
            "get",
            "/v1/openapi.json",
            "/v1/openapi.json",
            None,
            200,
        ),
        (api(), "post", WEB, "/v1/vrrp/web/switchover", None, 200),
        (api(), "post", WEB, "/v1/vrrp/no/switchover", None, 404),
        (api(), "post", WEB, "/v1/vrrp/busy/switchover", None, 409),
        (dead(), "post", WEB, "/v1/vrrp/web/switchover", None, 503),
        (
            api(),
            "post",
            "/v1/maintenance",
            "/v1/maintenance",
            Some(json!({"on": true})),
            200,
        ),
        (
            api(),
            "post",
            "/v1/maintenance",
            "/v1/maintenance",
            Some(json!({"on": false})),
            409,
        ),
        (
            api(),
            "post",
            "/v1/maintenance",
            "/v1/maintenance",
            Some(json!({"off": 1})),
            400,
        ),
        (
            dead(),
            "post",
            "/v1/maintenance",
            "/v1/maintenance",
            Some(json!({"on": true})),
            503,
        ),
        (
            api(),
            "post",
            REAL,
            "/v1/virtual_servers/http/real_servers/10.77.0.21",
            order("drain"),
            200,
        ),
        (
            api(),
            "post",
            REAL,
            "/v1/virtual_servers/http/real_servers/10.77.0.21",
            order("disable"),
            409,
        ),
        (
            api(),
            "post",
            REAL,
            "/v1/virtual_servers/http/real_servers/10.77.0.9",
            order("drain"),
            404,
        ),
        (
            api(),
            "post",
            REAL,
            "/v1/virtual_servers/http/real_servers/10.77.0.21",
            order("x"),
            400,
        ),
        (
            dead(),
            "post",
            REAL,
            "/v1/virtual_servers/http/real_servers/10.77.0.21",
            order("drain"),
            503,
        ),
        (
            api(),
            "post",
            CHECK,
            "/v1/virtual_servers/http/check",
            Some(json!({})),
            200,
        ),
        (
            api(),
            "post",
            CHECK,
            "/v1/virtual_servers/no/check",
            Some(json!({})),
            404,
        ),
        (
            api(),
            "post",
            CHECK,
            "/v1/virtual_servers/http/check",
            Some(json!({"x": 1})),
            400,
        ),
        (
            dead(),
            "post",
            CHECK,
            "/v1/virtual_servers/http/check",
            Some(json!({})),
            503,
        ),
        (api(), "post", "/v1/ipvs/sync", "/v1/ipvs/sync", None, 200),
        (dead(), "post", "/v1/ipvs/sync", "/v1/ipvs/sync", None, 503),
        (dead(), "get", "/v1/ipvs", "/v1/ipvs", None, 503),
        (
            api(),
            "post",
            "/v1/ipvs/zero",
            "/v1/ipvs/zero",
            Some(json!({"x": 1})),
            400,
        ),
        (
            dead(),
            "post",
            "/v1/ipvs/zero",
            "/v1/ipvs/zero",
            Some(json!({"virtual_server": "a"})),
            503,
        ),
        (
            api(),
            "post",
            "/v1/ipvs/restore",
            "/v1/ipvs/restore",
            Some(json!({"text": "-Z"})),
            400,
        ),
        (
            dead(),
            "post",
            "/v1/ipvs/restore",
            "/v1/ipvs/restore",
            Some(json!({"text": ""})),
            503,
        ),
        (api(), "get", "/v1/config", "/v1/config", None, 200),
        (dead(), "get", "/v1/config", "/v1/config", None, 503),
        (
            api(),
            "post",
            "/v1/plan",
            "/v1/plan",
            Some(json!({"text": "[global]\nname = \"lb2\"\n"})),
            200,
        ),
        (
            api(),
            "post",
            "/v1/plan",
            "/v1/plan",
            Some(json!({"text": "[glob"})),
            422,
        ),
        (api(), "post", "/v1/plan", "/v1/plan", Some(json!({})), 422),
        (
            api(),
            "post",
            "/v1/plan",
            "/v1/plan",
            Some(json!({"x": 1})),
            400,
        ),
        (dead(), "post", "/v1/plan", "/v1/plan", Some(json!({})), 503),
        (
            api(),
            "post",
            "/v1/reload",
            "/v1/reload",
            Some(json!({})),
            200,
        ),
        (
            api(),
            "post",
            "/v1/reload",
            "/v1/reload",
            Some(json!({"confirm_seconds": 60})),
            409,
        ),
        (
            api(),
            "post",
            "/v1/reload",
            "/v1/reload",
            Some(json!({"confirm_seconds": 0})),
            400,
        ),
        (
            dead(),
            "post",
            "/v1/reload",
            "/v1/reload",
            Some(json!({})),
            503,
        ),
        (
            api(),
            "post",
            "/v1/upgrade",
            "/v1/upgrade",
            Some(json!({})),
            200,
        ),
        (
            api(),
            "post",
            "/v1/upgrade",
            "/v1/upgrade",
            Some(json!({"binary": "/usr/sbin/none"})),
            409,
        ),
        (
            api(),
            "post",
            "/v1/upgrade",
            "/v1/upgrade",
            Some(json!({"binary": "none"})),
            400,
        ),
        (
            dead(),
            "post",
            "/v1/upgrade",
            "/v1/upgrade",
            Some(json!({})),
            503,
        ),
        (
            api(),
            "post",
            "/v1/confirm",
            "/v1/confirm",
            Some(json!({})),
            200,
        ),
        (
            api(),
            "post",
            "/v1/confirm",
            "/v1/confirm",
            Some(json!({"back": true})),
            409,
        ),
        (
            api(),
            "post",
            "/v1/confirm",
            "/v1/confirm",
            Some(json!({"x": true})),
            400,
        ),
        (
            dead(),
            "post",
            "/v1/confirm",
            "/v1/confirm",
            Some(json!({})),
            503,
        ),
        (api(), "get", "/v1/overrides", "/v1/overrides", None, 200),
        (dead(), "get", "/v1/overrides", "/v1/overrides", None, 503),
        (
            api(),
            "post",
            "/v1/overrides/reset",
            "/v1/overrides/reset",
            Some(json!({})),
            200,
        ),
        (
            api(),
            "post",
            "/v1/overrides/reset",
            "/v1/overrides/reset",
            Some(json!({"virtual_server": "no"})),
            404,
        ),
        (
            api(),
            "post",
            "/v1/overrides/reset",
            "/v1/overrides/reset",
            Some(json!({"virtual_server": "http"})),
            409,
        ),
        (
            api(),
            "post",
            "/v1/overrides/reset",
            "/v1/overrides/reset",
            Some(json!({"real_server": "x"})),
            400,
        ),
        (
            dead(),
            "post",
            "/v1/overrides/reset",
            "/v1/overrides/reset",
            Some(json!({})),
            503,
        ),
    ] {
        let (status, answer) = ask(control(api), method, path, body).await;
        assert_eq!(status, wanted, "{method} {path}: {answer}");
        let operation = &document["paths"][template][method];
        valid(
            &document,
            &answer_schema(&document, operation, status),
            &answer,
            path,
        );
        seen.insert((template.to_owned(), method.to_owned()));
    }
    let (status, answer) = ask(control(api()), "get", "/v1/ipvs/connections", None).await;
    let operation = &document["paths"]["/v1/ipvs/connections"]["get"];
    valid(
        &document,
        &answer_schema(&document, operation, status),
        &answer,
        "connections",
    );
    seen.insert(("/v1/ipvs/connections".to_owned(), "get".to_owned()));
    let (status, answer) = ask(public(dead()), "get", "/metrics", None).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("no_answer"))
    );
    seen.insert(("/metrics".to_owned(), "get".to_owned()));
    // What it gathers is of a whole daemon: tests/tests/operation.rs.
    seen.insert(("/v1/debug".to_owned(), "get".to_owned()));
    // What it looks at is a whole host: tests/tests/doctor.
    seen.insert(("/v1/doctor".to_owned(), "get".to_owned()));
    let unasked: Vec<_> = operations(&document)
        .map(|(path, method, _)| (path.to_owned(), method.to_owned()))
        .filter(|operation| !seen.contains(operation))
        .collect();
    assert!(
        unasked.is_empty(),
        "add requests for these to this test: {unasked:?}"
    );
}

#[test]
fn every_field_of_an_answer_is_in_the_document() {
    let document = document();
    for (schema, value) in [
        ("Status", to_value(troubled())),
        ("Ipvs", to_value(view())),
        ("ConnectionView", to_value(connection())),
        ("Checked", to_value(checked())),
        ("Bundle", to_value(bundle())),
        ("Doctor", to_value(report())),
        ("Overrides", to_value(ordered())),
        ("Planned", to_value(planned())),
    ] {
        let reference = json!({ "$ref": format!("#/components/schemas/{schema}") });
        valid(&document, &reference, &value, schema);
    }
}

#[tokio::test]
async fn every_error_has_the_one_shape_whoever_made_it() {
    let document = document();
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    for (method, path, wanted, code) in [
        ("get", "/", 404, "not_found"),
        ("get", "/v2/status", 404, "not_found"),
        ("delete", "/v1/status", 405, "method_not_allowed"),
        ("post", "/v1/vrrp/%ff/switchover", 400, "bad_request"),
        (
            "post",
            "/v1/virtual_servers/a/real_servers/%ff",
            400,
            "bad_request",
        ),
        ("post", "/v1/maintenance", 400, "bad_request"),
    ] {
        let (status, answer) = ask(control(api()), method, path, None).await;
        assert_eq!(status, wanted, "{method} {path}: {answer}");
        assert_eq!(answer["error"]["code"], code, "{path}");
        valid(&document, &schema, &answer, path);
    }
}

#[test]
fn the_document_says_what_it_is() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], "v1");
    for (path, method, operation) in operations(&document) {
        assert!(path.starts_with("/v1/") || path == "/metrics", "{path}");
        assert!(operation["summary"].is_string(), "{method} {path}");
    }
    // Every schema is used, and every one that is used is there.
    let text = document.to_string();
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        assert!(
            text.contains(&format!("#/components/schemas/{name}\"")),
            "{name} is not used"
        );
    }
}

fn document() -> Value {
    serde_json::from_str(include_str!("../src/control/openapi.json")).unwrap()
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn source(below: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src")
        .join(below)
}

/// What stands in `.route("PATH", get(..).post(..))` of every file below a folder.
fn read_routes(folder: &Path, routes: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_routes(&path, routes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for call in text.split(".route(").skip(1) {
                let call = &call[..end_of_call(call)];
                // Something else may be called so.
                let Some(rest) = call.trim_start().strip_prefix('"') else {
                    continue;
                };
                let (route, handlers) = rest.split_once('"').unwrap();
                for method in ["get", "post", "put", "patch", "delete"] {
                    let called = format!("{method}(");
                    let mut calls = handlers.match_indices(&called);
                    let own = |at: usize| {
                        !handlers[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                    };
                    if calls.any(|(at, _)| own(at)) {
                        routes.insert((route.to_owned(), method.to_owned()));
                    }
                }
            }
        }
    }
}

/// Where the parenthesis is closed that was opened before.
fn end_of_call(text: &str) -> usize {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn answer_schema(document: &Value, operation: &Value, status: u16) -> Value {
    let response = &operation["responses"][status.to_string()];
    assert!(
        !response.is_null(),
        "{DOCUMENT} does not know the answer {status} of {operation}"
    );
    let response = match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    };
    response["content"]["application/json"]["schema"].clone()
}

/// Whether a value is what a schema of the document says, and nothing beside.
fn valid(document: &Value, schema: &Value, value: &Value, what: &str) {
    let mut components = document["components"].clone();
    close(&mut components);
    let mut whole = schema.as_object().unwrap().clone();
    whole.insert("components".to_owned(), components);
    let schema = Value::Object(whole);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        wrong.is_empty(),
        "{what}: change {DOCUMENT} or the code: {wrong:#?}"
    );
}

/// Fields that the document does not have are not allowed.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") && object.get("type") == Some(&json!("object")) {
                object.entry("additionalProperties").or_insert(json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn order(change: &str) -> Option<Value> {
    Some(json!({ "change": change }))
}

/// What the routes need, with a director that answers by the book.
fn api() -> Api {
    let (director, mut wakes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(wake) = wakes.recv().await {
            match wake {
                Wake::Status(reply) => {
                    let mut status = healthy();
                    let mut busy = status.vrrp[0].clone();
                    busy.name = "busy".to_owned();
                    status.vrrp.push(busy);
                    let _ = reply.send(status);
                }
                Wake::Switchover { router, reply } => {
                    let done = if router == "web" {
                        Ok("done".to_owned())
                    } else {
                        Err("busy".to_owned())
                    };
                    let _ = reply.send(done);
                }
                Wake::Maintenance { on, reply } => {
                    let _ = reply.send(if on {
                        Ok("on".to_owned())
                    } else {
                        Err("no".to_owned())
                    });
                }
                Wake::RealServer { order, reply } => {
                    let drain = order.change == vipd::overrides::Change::Drain;
                    let _ = reply.send(if drain {
                        Ok("drains".to_owned())
                    } else {
                        Err("no".to_owned())
                    });
                }
                Wake::Checks { reply, .. } => drop(reply.send(Vec::new())),
                Wake::Names(reply) => drop(reply.send(BTreeMap::new())),
                Wake::SendConnections(reply) => drop(reply.send(Ok("sent".to_owned()))),
                Wake::InForce(reply) => drop(reply.send(in_force())),
                Wake::Overrides(reply) => drop(reply.send(ordered())),
                Wake::Reload(reload::Request { confirm, reply }) => {
                    let done = match confirm {
                        Some(_) => Err("no".to_owned()),
                        None => Ok("done".to_owned()),
                    };
                    drop(reply.map(|reply| reply.send(done)));
                }
                Wake::Upgrade { binary, reply } => {
                    let upgraded = Upgraded {
                        message: "upgraded".to_owned(),
                        version: "0.1.0".to_owned(),
                        pid: 4711,
                    };
                    let why = "not upgraded, everything is as before".to_owned();
                    let _ = reply.send(if binary.is_none() {
                        Ok(upgraded)
                    } else {
                        Err(why)
                    });
                }
                Wake::Confirm { back, reply } => {
                    let done = if back {
                        Err("no".to_owned())
                    } else {
                        Ok("stays".to_owned())
                    };
                    let _ = reply.send(done);
                }
                Wake::ResetOverrides { scope, reply } => {
                    let done = match scope.virtual_server {
                        Some(_) => Err("no".to_owned()),
                        None => Ok("reset".to_owned()),
                    };
                    let _ = reply.send(done);
                }
                _ => {}
            }
        }
    });
    Api {
        director,
        reconciler: Arc::new(Reconciler::start(|_| {}).unwrap()),
        events: Arc::new(Events::default()),
    }
}

fn in_force() -> InForce {
    InForce {
        path: "/nowhere/vipd.toml".into(),
        loaded: std::time::SystemTime::UNIX_EPOCH,
        text: "".into(),
        config: Arc::new(Config::parse("", "the defaults").unwrap()),
    }
}

fn ordered() -> overrides::View {
    overrides::View {
        maintenance: true,
        real_servers: vec![overrides::Ordered {
            virtual_server: "http".to_owned(),
            real_server: "10.77.0.21:80".to_owned(),
            state: Some(overrides::Out::Draining),
            weight: Some(5),
            configured_weight: Some(1),
        }],
    }
}

fn planned() -> Planned {
    Planned {
        plan: Plan {
            changes: vec![Change {
                object: "vrrp web".to_owned(),
                risk: Risk::MayMove,
                key: "priority".to_owned(),
                of: vec![String::new()],
                change: "100 → 150".to_owned(),
                note: Some(String::new()),
            }],
        },
        warnings: vec![String::new()],
        diff: String::new(),
    }
}

async fn ask(routes: Router, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let request = Request::builder()
        .method(method.to_uppercase().as_str())
        .uri(path)
        .header("content-type", "application/json")
        .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
        .unwrap();
    let response = routes.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 4 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&body);
    (
        status,
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")),
    )
}

fn to_value(value: impl Serialize) -> Value {
    let value = serde_json::to_value(value).unwrap();
    assert!(
        !value.to_string().contains("null"),
        "fill every field in: {value}"
    );
    value
}

/// A status in which every field that may be absent is there.
fn troubled() -> Status {
    let at = || "2027-01-15T08:00:00.000Z".to_owned();
    let mut status = healthy();
    status.config.trial_seconds_left = Some(41);
    let router = &mut status.vrrp[0];
    router.virtual_mac = Some("00:00:5e:00:01:33".to_owned());
    router.sync_group = Some("both".to_owned());
    let rival = router.master.clone();
    router.rival = rival.or(Some(MasterStatus {
        address: String::new(),
        priority: 1,
    }));
    router.suspect = Some("02:00:00:00:00:01".to_owned());
    router.incompatible = Some(IncompatibleStatus {
        address: String::new(),
        reason: String::new(),
        since: at(),
    });
    router.conflicts = vec![ConflictStatus {
        address: String::new(),
        mac: String::new(),
        last: at(),
    }];
    router.track = vec![TrackStatus {
        what: String::new(),
        ok: true,
        detail: String::new(),
        weight: Some(-1),
    }];
    let real = &mut status.virtual_servers[0].real_servers[0];
    real.weight.ordered = Some(1);
    let check = &mut real.checks[0];
    check.last_error = Some(String::new());
    check.asks_for = Some(AskedStatus::Percent(50));
    check.flapping = Some(String::new());
    check.warning = Some(String::new());
    status.checks.all_failing = Some(AllFailingStatus {
        targets: 1,
        since: at(),
    });
    status.checks.shortage = Some(ShortageStatus {
        probes: 1,
        last: at(),
        why: String::new(),
    });
    status.ipvs.sync = Some(SyncStatus {
        interface: String::new(),
        id: 1,
        running: true,
        peers: vec![SyncPeerStatus {
            address: String::new(),
            ready: true,
        }],
        transfers: 1,
        connections: 1,
        skipped: BTreeMap::from([("a".to_owned(), 1)]),
        last: Some(at()),
        last_words: Some(String::new()),
        trouble: Some(String::new()),
    });
    status.config.last_reload = Some(ReloadStatus {
        at: at(),
        ok: false,
        error: Some(String::new()),
    });
    status
}

fn view() -> View {
    View {
        version: "1.2.1".to_owned(),
        connection_table_size: 4096,
        timeouts: TimeoutsView {
            tcp: 1,
            tcp_fin: 1,
            udp: 1,
        },
        daemons: vec![DaemonView {
            role: "master".to_owned(),
            interface: "eth1".to_owned(),
            id: 1,
            max_length: 1,
            group: Some([224, 0, 0, 81].into()),
            port: 8848,
            ttl: 1,
        }],
        services: vec![ServiceView {
            virtual_server: Some("http".to_owned()),
            protocol: "tcp".to_owned(),
            address: "10.0.0.1:80".to_owned(),
            family: "ipv4".to_owned(),
            scheduler: "mh".to_owned(),
            scheduler_flags: vec!["mh-port".to_owned()],
            one_packet: false,
            persistence: Some(PersistenceView {
                timeout: 1,
                netmask: 32,
                engine: Some("sip".to_owned()),
            }),
            counters: TrafficStatus::default(),
            rates: TrafficStatus::default(),
            real_servers: vec![RealServerView {
                address: "10.0.0.2:80".parse().unwrap(),
                forwarding: "tun".to_owned(),
                tunnel: Some(TunnelView {
                    kind: "gue".to_owned(),
                    port: Some(1),
                    checksum: "no".to_owned(),
                }),
                weight: 1,
                upper_threshold: 0,
                lower_threshold: 0,
                connections: ConnectionsStatus::default(),
                counters: TrafficStatus::default(),
                rates: TrafficStatus::default(),
            }],
        }],
    }
}

fn connection() -> ConnectionView {
    let endpoint = || "10.0.0.2:80".parse().unwrap();
    ConnectionView {
        protocol: "tcp".to_owned(),
        client: endpoint(),
        virtual_address: endpoint(),
        real_server: endpoint(),
        state: "ESTABLISHED".to_owned(),
        expires: 1,
        engine: Some("sip".to_owned()),
        engine_data: Some("x".to_owned()),
    }
}

fn checked() -> Checked {
    Checked {
        virtual_server: "http".to_owned(),
        real_servers: vec![CheckedServer {
            address: "10.0.0.2:80".to_owned(),
            checks: vec![CheckedOnce {
                kind: "tcp".to_owned(),
                check: "tcp 10.0.0.2:80".to_owned(),
                source: Some([10, 0, 0, 1].into()),
                interface: Some("eth0".to_owned()),
                fwmark: Some(1),
                via: "direct".to_owned(),
                passed: true,
                outcome: "passed".to_owned(),
                warning: Some("soon".to_owned()),
                asks_for: Some(AskedStatus::Absolute(1)),
                duration_ms: 0.5,
                steps: vec![CheckedStep {
                    name: "connect".to_owned(),
                    ms: 0.5,
                }],
            }],
        }],
    }
}

fn report() -> Report {
    let text = || "a".to_owned();
    Report {
        findings: vec![Finding {
            code: text(),
            severity: Severity::Error,
            object: text(),
            title: text(),
            evidence: vec![text()],
            why: text(),
            remedy: Remedy {
                words: text(),
                on: Some(text()),
                command: Some(vec![text()]),
                key: Some(Key {
                    table: text(),
                    name: Some(text()),
                    key: text(),
                    value: text(),
                }),
            },
        }],
        not_looked_at: vec![text()],
        took_ms: 1,
    }
}

fn bundle() -> Bundle {
    Bundle {
        sections: vec![Section {
            title: "a".to_owned(),
            text: "b".to_owned(),
        }],
    }
}
