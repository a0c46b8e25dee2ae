//! The control API and `vipctl`: the real routes and the real client, before a director that answers
//! by the book.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod fixture;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tower::ServiceExt;
use vipd::control::server::{Api, control, public};
use vipd::control::wait::{End, look};
use vipd::director_loop::{RealServerOrder, Wake};
use vipd::events::{Events, Kind};
use vipd::overrides::Change;
use vipd::reconcile::Reconciler;
use vipd::status::Status;

use self::fixture::healthy;

const HANDED_OVER: &str = "web: 192.168.1.3 (priority 100) is master; handed over in 612 ms";

#[tokio::test]
async fn events_come_newest_last_and_after_the_known_one() {
    let api = api();
    let first = api.events.record(Kind::VrrpMaster, "web", "one");
    let second = api.events.record(Kind::VrrpBackup, "web", "two");
    let (status, page) = get(control(api.clone()), "/v1/events").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(page["last_id"], second);
    assert_eq!(ids(&page), [first, second]);
    assert_eq!(page["events"][0]["kind"], "vrrp.master");
    assert_eq!(page["events"][0]["object"], "web");
    assert_eq!(page["events"][0]["message"], "one");
    let (_, page) = get(control(api.clone()), "/v1/events?limit=1").await;
    assert_eq!(ids(&page), [second]);
    let after = format!("/v1/events?after={first}&limit=5");
    let (_, page) = get(control(api.clone()), &after).await;
    assert_eq!(ids(&page), [second]);
    let (_, page) = get(public(api), &format!("/v1/events?after={second}")).await;
    assert_eq!(ids(&page), [] as [u64; 0]);
    assert_eq!(page["last_id"], second);
}

#[tokio::test]
async fn a_follower_is_answered_as_soon_as_something_happens() {
    let api = api();
    let last = api.events.last_id();
    let path = format!("/v1/events?after={last}&wait=50");
    let waiting = tokio::spawn({
        let routes = control(api.clone());
        async move { get(routes, &path).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    let id = api.events.record(Kind::Switchover, "web", "ordered");
    let answered = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert_eq!(ids(&answered.unwrap().unwrap().1), [id]);
}

#[tokio::test]
async fn an_order_for_an_unknown_router_names_the_known_ones() {
    let path = "/v1/vrrp/wbe/switchover";
    let (status, answer) = post(control(api()), path, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(answer["error"]["code"], "unknown_router");
    let message = "there is no virtual router wbe; known: web, in side/ü%2F";
    assert_eq!(answer["error"]["message"], message);
}

#[tokio::test]
async fn a_refused_order_is_a_conflict_and_a_dead_director_no_answer() {
    let path = "/v1/vrrp/in%20side%2F%C3%BC%252F/switchover";
    let (status, answer) = post(control(api()), path, None).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let refused = json!({ "error": { "code": "refused", "message": NOT_MASTER } });
    assert_eq!(answer, refused);
    let mut api = api();
    api.director = mpsc::unbounded_channel().0;
    let (status, answer) = post(control(api.clone()), path, None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["error"]["code"], "no_answer");
    let (status, _) = get(control(api), "/v1/status").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn maintenance_takes_exactly_one_boolean() {
    for body in ["", "{}", "{\"on\": 1}", "{\"on\": true, \"off\": 1}", "on"] {
        let (status, answer) = post(control(api()), "/v1/maintenance", Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
        assert_eq!(answer["error"]["code"], "bad_request", "{body}");
    }
    let on = Some("{\"on\": true}");
    let (status, answer) = post(control(api()), "/v1/maintenance", on).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["message"], "maintenance is on\nweb: was master");
}

#[tokio::test]
async fn the_tcp_listener_takes_no_orders() {
    let body = Some("{\"on\": true}");
    for path in ["/v1/maintenance", "/v1/vrrp/web/switchover"] {
        let (status, answer) = post(public(api()), path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(answer["error"]["code"], "not_found");
    }
    let (status, answer) = post(public(api()), "/v1/events", body).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer["error"]["code"], "method_not_allowed");
    let (status, answer) = get(public(api()), "/v1/events?after=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["code"], "bad_request");
    let (status, answer) = get(public(api()), "/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["name"], "lb1");
}

#[test]
fn vipctl_switchover_prints_how_it_went() {
    let daemon = Daemon::start();
    let output = daemon.vipctl(&["switchover", "web"]);
    assert_eq!(
        said(&output),
        (Some(0), format!("{HANDED_OVER}\n"), String::new())
    );
}

#[test]
fn vipctl_switchover_that_is_refused_is_a_failure_with_one_sentence() {
    let daemon = Daemon::start();
    let output = daemon.vipctl(&["switchover", "in side/ü%2F"]);
    let complaint = format!("vipctl: {NOT_MASTER}\n");
    assert_eq!(said(&output), (Some(1), String::new(), complaint));
    let output = daemon.vipctl(&["switchover", "nobody"]);
    let complaint = "vipctl: there is no virtual router nobody; known: web, in side/ü%2F\n";
    assert_eq!(
        said(&output),
        (Some(1), String::new(), complaint.to_owned())
    );
}

#[test]
fn vipctl_complete_says_the_names_that_a_shell_asks_for() {
    let daemon = Daemon::start();
    let names = |words: &[&str]| {
        let (code, out, _) = said(&daemon.vipctl(&[&["complete"], words].concat()));
        assert_eq!(code, Some(0));
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["virtual-servers"]), ["http"]);
    let reals = names(&["real-servers", "http"]);
    assert!(reals.contains(&"10.77.0.21:80".to_owned()), "{reals:?}");
    assert_eq!(names(&["real-servers", "nobody"]), [""; 1]);
    assert!(names(&["vrrp"]).contains(&"web".to_owned()));
}

#[test]
fn vipctl_maintenance_prints_what_happens_to_each_router() {
    let daemon = Daemon::start();
    let output = daemon.vipctl(&["maintenance", "on"]);
    let words = "maintenance is on\nweb: was master\n".to_owned();
    assert_eq!(said(&output), (Some(0), words, String::new()));
    let output = daemon.vipctl(&["maintenance", "off"]);
    let complaint = "vipctl: nothing changed: /var/lib/vipd: Read-only file system\n";
    assert_eq!(
        said(&output),
        (Some(1), String::new(), complaint.to_owned())
    );
    let output = daemon.vipctl(&["maintenance", "perhaps"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn vipctl_events_prints_lines_for_people_and_json_for_programs() {
    let daemon = Daemon::start();
    daemon.events.record(
        Kind::VrrpMaster,
        "web",
        "master, was backup: no master was heard",
    );
    daemon.events.record(Kind::QuorumLost, "http", "weight 0");
    let (code, out, _) = said(&daemon.vipctl(&["events"]));
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = out.lines().map(|line| line.split_at(19).1).collect();
    assert_eq!(
        lines,
        [
            "  vrrp.master       web               master, was backup: no master was heard",
            "  quorum.lost       http              weight 0",
        ]
    );
    let (_, out, _) = said(&daemon.vipctl(&["events", "--json", "-n", "1"]));
    let event: Value = serde_json::from_str(out.trim_end()).unwrap();
    assert_eq!(event["kind"], "quorum.lost");
    let (_, out, _) = said(&daemon.vipctl(&["events", "-n", "0"]));
    assert_eq!(out, "");
}

#[test]
fn vipctl_events_are_told_in_the_time_of_this_place() {
    let daemon = Daemon::start();
    daemon.events.record(Kind::VrrpMaster, "web", "");
    let hours = |zone: &str| {
        let mut vipctl = daemon.command(&["events"]);
        let (_, out, _) = said(&vipctl.env("TZ", zone).output().unwrap());
        let (hour, minute) = out.get(11..16).unwrap().split_once(':').unwrap();
        hour.parse::<i32>().unwrap() * 60 + minute.parse::<i32>().unwrap()
    };
    let apart = hours("EAST-5:30") - hours("UTC");
    assert!([330, 330 - 24 * 60].contains(&apart), "{apart} minutes");
}

#[test]
fn vipctl_events_goes_on_over_a_restart_of_the_daemon() {
    let daemon = Daemon::start();
    daemon.events.record(Kind::VrrpMaster, "web", "before");
    let vipctl = daemon.command(&["events", "--follow", "--json"]);
    let mut follower = Follower::start(vipctl);
    assert_eq!(follower.next()["message"], "before");
    daemon.events.record(Kind::VrrpBackup, "web", "while");
    assert_eq!(follower.next()["message"], "while");
    let socket = daemon.stop();
    let daemon = Daemon::start_at(socket);
    daemon.events.record(Kind::VrrpMaster, "web", "after");
    assert_eq!(follower.next()["message"], "after");
}

#[test]
fn vipctl_events_ends_in_peace_when_nobody_reads_any_more() {
    let daemon = Daemon::start();
    daemon.events.record(Kind::VrrpMaster, "web", "one");
    let vipctl = daemon.command(&["events", "--follow", "--json"]);
    let mut follower = Follower::start(vipctl);
    follower.next();
    drop(follower.lines.take());
    daemon.events.record(Kind::VrrpMaster, "web", "two");
    assert_eq!(follower.child.wait().unwrap().code(), Some(0));
}

#[test]
fn vipctl_status_in_a_pipe_is_plain_text_with_whole_lines() {
    let daemon = Daemon::start();
    let (code, out, _) = said(&daemon.vipctl(&["status"]));
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("lb1  vipd 0.1.0, up 2m14s, all is well: master of 2 of 2, "),
        "{out}"
    );
    assert!(!out.contains('\x1b'));
}

#[test]
fn vipctl_finds_a_real_server_with_or_without_its_port() {
    let daemon = Daemon::start();
    for (words, answer) in [
        (
            ["enable", "http", "10.77.0.22"].as_slice(),
            "http/10.77.0.22:80: Enable false",
        ),
        (
            &["enable", "http", "10.77.0.21:8080"],
            "http/10.77.0.21:8080: Enable false",
        ),
        (
            &["weight", "http", "10.77.0.22:80", "5"],
            "http/10.77.0.22:80: Weight(5) false",
        ),
        (
            &["weight", "http", "10.77.0.22", "--reset"],
            "http/10.77.0.22:80: Reset false",
        ),
        (
            &["disable", "http", "10.77.0.22", "--force"],
            "http/10.77.0.22:80: Disable true",
        ),
    ] {
        let wanted = (Some(0), format!("{answer}\n"), String::new());
        assert_eq!(said(&daemon.vipctl(words)), wanted);
    }
}

#[test]
fn an_order_for_what_is_not_there_or_not_one_names_what_there_is() {
    let daemon = Daemon::start();
    for (words, complaint) in [
        (
            ["drain", "http", "10.77.0.21"],
            "http has more than one real server 10.77.0.21: 10.77.0.21:80, 10.77.0.21:8080",
        ),
        (
            ["drain", "http", "10.77.0.23"],
            "http has no real server 10.77.0.23; known: 10.77.0.21:80, 10.77.0.21:8080, \
             10.77.0.22:80",
        ),
        (
            ["enable", "http", "../x?y#z"],
            "http has no real server ../x?y#z; known: 10.77.0.21:80, 10.77.0.21:8080, \
             10.77.0.22:80",
        ),
        (
            ["drain", "https", "10.77.0.21:80"],
            "there is no virtual server https; known: http",
        ),
        (["disable", "http", "10.77.0.22"], LAST_ONE),
    ] {
        let wanted = (Some(1), String::new(), format!("vipctl: {complaint}\n"));
        assert_eq!(said(&daemon.vipctl(&words)), wanted);
    }
    for words in [
        ["weight", "http", "10.77.0.22"].as_slice(),
        &["weight", "http", "10.77.0.22", "-1"],
        &["weight", "http", "10.77.0.22", "2147483648"],
        &["weight", "http", "10.77.0.22", "1", "--reset"],
        &["drain", "http"],
    ] {
        assert_eq!(daemon.vipctl(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn vipctl_drain_waits_for_the_last_connection_and_tells_how_many_are_left() {
    let daemon = Daemon::start();
    let output = daemon.vipctl(&["drain", "http", "10.77.0.22", "--wait"]);
    let lines = [
        "http/10.77.0.22:80: drains",
        "http/10.77.0.22: the kernel has not taken it in yet",
        "http/10.77.0.22: 1 connection is left",
        "http/10.77.0.22: no connections are left",
    ];
    let wanted = format!("{}\n", lines.join("\n"));
    assert_eq!(said(&output), (Some(0), wanted, String::new()));
}

#[tokio::test]
async fn an_order_for_a_real_server_takes_a_change_and_nothing_else() {
    let path = "/v1/virtual_servers/http/real_servers/10.77.0.22";
    for body in [
        "",
        "{}",
        "{\"change\": \"stop\"}",
        "{\"change\": {\"weight\": -1}}",
        "{\"change\": {\"weight\": 2147483648}}",
        "{\"change\": \"weight\"}",
        "{\"change\": \"drain\", \"wait\": true}",
    ] {
        let (status, answer) = post(control(api()), path, Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
    }
    let weight = Some("{\"change\": {\"weight\": 0}, \"force\": true}");
    let (status, answer) = post(control(api()), path, weight).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["message"], "http/10.77.0.22:80: Weight(0) true");
    let (status, _) = post(public(api()), path, weight).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[test]
fn a_wait_counts_the_connections_that_a_protocol_has() {
    let mut status = healthy();
    let server = &mut status.virtual_servers[0];
    let real = &mut server.real_servers[0];
    real.state = "draining".to_owned();
    real.weight.effective = 0;
    real.connections.active = 0;
    real.connections.inactive = 10;
    let drained = |status: &Status| look(status, "http", "10.77.0.21", End::Drained);
    assert_eq!(drained(&status), Ok(None));
    for protocol in ["udp", "fwmark"] {
        status.virtual_servers[0].protocol = protocol.to_owned();
        let words = "http/10.77.0.21: 10 connections are left".to_owned();
        assert_eq!(drained(&status), Ok(Some(words)));
    }
    let words = "http/10.77.0.21 is draining now: somebody ordered otherwise".to_owned();
    assert_eq!(
        look(&status, "http", "10.77.0.21", End::Gone),
        Err(words.clone())
    );
    assert_eq!(
        look(&status, "http", "10.77.0.21", End::Serving),
        Err(words)
    );
    status.virtual_servers[0].real_servers[0].state = "down".to_owned();
    let words = "http/10.77.0.21: it is down".to_owned();
    assert_eq!(
        look(&status, "http", "10.77.0.21", End::Serving),
        Ok(Some(words))
    );
}

const LAST_ONE: &str = "would leave http without any real server; --force does it all the same";
const NOT_MASTER: &str = "web is not master here (backup; master 192.168.1.3)";

/// What the routes need, with a director that hands `web` over, hands nothing else over, goes into
/// maintenance and cannot leave it.
fn api() -> Api {
    let (director, mut wakes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut draining, mut looks) = (false, 0);
        while let Some(wake) = wakes.recv().await {
            match wake {
                Wake::Status(reply) => {
                    let mut status = healthy();
                    let servers = &mut status.virtual_servers[0].real_servers;
                    let mut second = servers[0].clone();
                    second.address = "10.77.0.21:8080".to_owned();
                    let mut third = servers[0].clone();
                    third.address = "10.77.0.22:80".to_owned();
                    if draining {
                        third.state = "draining".to_owned();
                        third.weight.effective = u32::from(looks == 0);
                        third.connections.active = 2_u32.saturating_sub(looks);
                        looks += 1;
                    }
                    servers.extend([second, third]);
                    let mut second = status.vrrp[0].clone();
                    second.name = "in side/ü%2F".to_owned();
                    status.vrrp.push(second);
                    let _ = reply.send(status);
                }
                Wake::Switchover { router, reply } => {
                    let _ = reply.send(match router.as_str() {
                        "web" => Ok(HANDED_OVER.to_owned()),
                        "in side/ü%2F" => Err(NOT_MASTER.to_owned()),
                        other => Err(format!("{other} got through")),
                    });
                }
                Wake::Maintenance { on: true, reply } => {
                    let _ = reply.send(Ok("maintenance is on\nweb: was master".to_owned()));
                }
                Wake::Maintenance { on: false, reply } => {
                    let why = "nothing changed: /var/lib/vipd: Read-only file system";
                    let _ = reply.send(Err(why.to_owned()));
                }
                Wake::RealServer { order, reply } => {
                    let RealServerOrder {
                        virtual_server,
                        real_server,
                        change,
                        force,
                    } = order;
                    let object = format!("{virtual_server}/{real_server}");
                    let _ = reply.send(match (change, force) {
                        (Change::Disable, false) => Err(LAST_ONE.to_owned()),
                        (Change::Drain, _) => {
                            draining = true;
                            Ok(format!("{object}: drains"))
                        }
                        (change, force) => Ok(format!("{object}: {change:?} {force}")),
                    });
                }
                other => panic!("{other:?} was not expected"),
            }
        }
    });
    Api {
        director,
        reconciler: Arc::new(Reconciler::start(|_| {}).unwrap()),
        events: Arc::new(Events::default()),
    }
}

async fn get(routes: Router, path: &str) -> (StatusCode, Value) {
    answer(routes, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(routes: Router, path: &str, body: Option<&str>) -> (StatusCode, Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let body = Body::from(body.unwrap_or_default().to_owned());
    answer(routes, request.body(body).unwrap()).await
}

async fn answer(routes: Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = routes.oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn ids(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().unwrap();
    events.iter().map(|e| e["id"].as_u64().unwrap()).collect()
}

/// The control socket of a daemon, in a folder of its own.
struct Daemon {
    runtime: Option<Runtime>,
    socket: PathBuf,
    events: Arc<Events>,
}

impl Daemon {
    fn start() -> Daemon {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vipd-control-{}-{number}.sock", std::process::id());
        Daemon::start_at(std::env::temp_dir().join(name))
    }

    fn start_at(socket: PathBuf) -> Daemon {
        let runtime = Runtime::new().unwrap();
        let _ = std::fs::remove_file(&socket);
        let events = runtime.block_on(async {
            let api = api();
            let events = Arc::clone(&api.events);
            let listener = UnixListener::bind(&socket).unwrap();
            tokio::spawn(async move { axum::serve(listener, control(api)).await.unwrap() });
            events
        });
        Daemon {
            runtime: Some(runtime),
            socket,
            events,
        }
    }

    /// Ends it with all of its connections; the path can be used again.
    fn stop(mut self) -> PathBuf {
        self.runtime
            .take()
            .unwrap()
            .shutdown_timeout(Duration::from_secs(10));
        self.socket.clone()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vipctl"));
        command.arg("--socket").arg(&self.socket).args(arguments);
        command
    }

    fn vipctl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A `vipctl events --follow --json` and its lines.
struct Follower {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(mut command: Command) -> Follower {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        Follower { child, lines }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.as_mut().unwrap().read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
