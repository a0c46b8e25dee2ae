//! `vipctl check`: the real client, routes and probes against a real nginx, a port where nobody listens
//! and one where nobody answers, before a director that knows these checks.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod fixture;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use health::program::Program;
use health::{
    AgentSpec, CheckKind, CheckSpec, DnsRecord, DnsSpec, GrpcSpec, HttpSpec, HttpVersion, Route,
    SmtpSpec, Start, TlsSpec, UdpSpec,
};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use vipd::control::server::{Api, control};
use vipd::director_loop::{CheckTarget, PlannedCheck, Wake};
use vipd::events::Events;
use vipd::reconcile::Reconciler;

use self::fixture::healthy;

const TIMEOUT: Duration = Duration::from_millis(700);

#[test]
fn each_step_of_a_passing_check_is_told_with_its_time() {
    let nginx = Nginx::start();
    let daemon = Daemon::start(vec![vec![http(nginx.address), tcp(nginx.address)]]);
    let (code, page, _) = said(&daemon.vipctl(&["check", "http"]));
    assert_eq!(code, Some(0), "{page}");
    assert!(page.starts_with("http/10.77.0.21\n"), "{page}");
    let words = format!("  http GET /health at {}: passed after ", nginx.address);
    assert!(page.contains(&words), "{page}");
    let (code, text, _) = said(&daemon.vipctl(&["check", "http", "10.77.0.21", "--json"]));
    assert_eq!(code, Some(0));
    let checked: Value = serde_json::from_str(&text).unwrap();
    let checks = &checked["real_servers"][0]["checks"];
    assert_eq!(steps(&checks[0]), ["connect", "first byte", "body"]);
    assert_eq!(steps(&checks[1]), ["connect"]);
    assert_eq!(checks[0]["type"], "http");
    assert_eq!(checks[0]["passed"], true);
    assert_eq!(checks[0]["outcome"], "passed");
    assert_eq!(checks[0]["via"], "direct");
    assert_eq!(checks[0]["source"], Value::Null);
    let all = checks[0]["duration_ms"].as_f64().unwrap();
    let parts = checks[0]["steps"].as_array().unwrap();
    let parts: f64 = parts.iter().map(|step| step["ms"].as_f64().unwrap()).sum();
    assert!(parts > 0.0 && parts <= all, "{checked:#}");
}

#[test]
fn a_refused_and_a_hanging_port_fail_at_their_step_beside_each_other() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (silent.local_addr().unwrap(), silent);
    let daemon = Daemon::start(vec![
        vec![http(refused()), http(silent.0)],
        vec![
            http(silent.0),
            http(silent.0),
            http(silent.0),
            http(silent.0),
        ],
        vec![],
    ]);
    let started = Instant::now();
    let (code, page, _) = said(&daemon.vipctl(&["check", "http"]));
    assert!(
        started.elapsed() < 4 * TIMEOUT,
        "one after the other: {page}"
    );
    assert_eq!(code, Some(1), "{page}");
    assert!(page.contains("FAILED after "), "{page}");
    assert!(page.contains("    connection refused\n"), "{page}");
    assert!(page.contains("no answer within 700ms"), "{page}");
    assert!(
        page.contains("  no check: it always counts as healthy\n"),
        "{page}"
    );
    let (_, text, _) = said(&daemon.vipctl(&["check", "http", "--json"]));
    let checked: Value = serde_json::from_str(&text).unwrap();
    let servers = checked["real_servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3);
    let first = &servers[0]["checks"];
    assert_eq!(steps(&first[0]), ["connect"]);
    assert_eq!(steps(&first[1]), ["connect", "first byte"]);
    assert_eq!(first[1]["passed"], false);
    let waited = first[1]["steps"][1]["ms"].as_f64().unwrap();
    assert!(waited > 600.0, "{checked:#}");
    assert_eq!(servers[2]["checks"], json!([]));
}

#[test]
fn every_type_of_check_runs_and_says_what_became_of_it() {
    let port = refused();
    let tls = TlsSpec {
        verify: false,
        sni: None,
        ca: None,
        identity: None,
        expires_within: Duration::ZERO,
    };
    let dns = DnsSpec {
        name: "example.org".to_owned(),
        record: DnsRecord::A,
        expect: None,
        tcp: false,
    };
    let udp = UdpSpec {
        send: b"x".to_vec(),
        expect: None,
    };
    let program = |words: &[&str]| Program {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        user: "nobody".to_owned(),
    };
    let smtp = SmtpSpec {
        helo: None,
        starttls: None,
    };
    let grpc = GrpcSpec {
        service: String::new(),
        host: None,
        tls: None,
    };
    let send = String::new();
    let failing = [
        CheckKind::Tcp,
        CheckKind::Tls(tls),
        CheckKind::Smtp(smtp),
        CheckKind::Grpc(grpc),
        CheckKind::Dns(dns),
        CheckKind::Udp(udp),
        CheckKind::Agent(AgentSpec { send }),
        CheckKind::Script(program(&["/usr/bin/false"])),
    ];
    let passing = [
        CheckKind::Ping,
        CheckKind::Script(program(&["/bin/sh", "-c", "exit 7"])),
    ];
    let specs = |kinds: &[CheckKind]| -> Vec<CheckSpec> {
        kinds.iter().map(|kind| spec(kind.clone(), port)).collect()
    };
    let daemon = Daemon::start(vec![specs(&failing), specs(&passing)]);
    let (code, text, _) = said(&daemon.vipctl(&["check", "http", "--json"]));
    assert_eq!(code, Some(1), "{text}");
    let checked: Value = serde_json::from_str(&text).unwrap();
    let servers = &checked["real_servers"];
    for (kind, check) in failing.iter().zip(servers[0]["checks"].as_array().unwrap()) {
        assert_eq!(check["type"], kind.name(), "{check:#}");
        assert_eq!(check["passed"], false, "{check:#}");
        assert!(!steps(check).is_empty(), "{check:#}");
    }
    for (kind, check) in passing.iter().zip(servers[1]["checks"].as_array().unwrap()) {
        assert_eq!(check["type"], kind.name(), "{check:#}");
        assert_eq!(check["outcome"], "passed", "{check:#}");
    }
    assert_eq!(
        servers[1]["checks"][1]["asks_for"],
        json!({ "absolute": 5 })
    );
    let (code, page, _) = said(&daemon.vipctl(&["check", "http", "10.77.0.22"]));
    assert_eq!(code, Some(0), "{page}");
    assert!(page.contains("    asks for weight 5\n"), "{page}");
    assert!(!page.contains("10.77.0.21"), "{page}");
}

#[test]
fn the_way_of_a_check_is_told_and_one_without_its_way_is_not_run() {
    let through = |mark| CheckSpec {
        route: Route {
            mark: Some(mark),
            through: Some("127.0.0.1".parse().unwrap()),
            ..Route::default()
        },
        ..tcp("127.0.0.2:9".parse().unwrap())
    };
    let mark = 0x7670_0001_u32.try_into().unwrap();
    let daemon = Daemon::hindered(vec![vec![through(mark)]], "there is no way");
    let (code, text, _) = said(&daemon.vipctl(&["check", "http", "--json"]));
    assert_eq!(code, Some(1));
    let checked: Value = serde_json::from_str(&text).unwrap();
    let check = &checked["real_servers"][0]["checks"][0];
    assert_eq!(check["check"], "tcp 127.0.0.2:9 through 127.0.0.1");
    assert_eq!(check["via"], "vip");
    assert_eq!(check["source"], "127.0.0.1");
    assert_eq!(check["fwmark"], 0x7670_0001);
    assert_eq!(
        check["outcome"],
        "the target was not probed: there is no way"
    );
    assert_eq!(check["steps"], json!([]));
    let (_, page, _) = said(&daemon.vipctl(&["check", "http"]));
    let words = "    from 127.0.0.1, firewall mark 1987051521\n";
    assert!(page.contains(words), "{page}");
}

#[test]
fn what_is_not_there_is_exit_code_2_and_nothing_else_is() {
    let daemon = Daemon::start(vec![vec![]]);
    for (words, complaint) in [
        (
            &["check", "htpt"][..],
            "there is no virtual server htpt; known: http",
        ),
        (
            &["check", "http", "10.9.9.9"],
            "http has no real server 10.9.9.9; known: 10.77.0.21",
        ),
        (&["check"], "VIRTUAL_SERVER"),
    ] {
        let (code, _, error) = said(&daemon.vipctl(words));
        assert_eq!(code, Some(2), "{words:?}: {error}");
        assert!(error.contains(complaint), "{error}");
    }
    let (code, page, _) = said(&daemon.vipctl(&["check", "http"]));
    assert_eq!(code, Some(0), "{page}");
    let socket = daemon.socket.clone();
    drop(daemon);
    let (code, _, error) = said(&vipctl(&socket, &["check", "http"]));
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("is vipd running?"), "{error}");
}

fn spec(kind: CheckKind, target: SocketAddr) -> CheckSpec {
    CheckSpec {
        target,
        route: Route::default(),
        kind,
        interval: Duration::from_secs(5),
        fast_interval: None,
        down_interval: None,
        flap: None,
        timeout: TIMEOUT,
        rise: 1,
        fall: 2,
        start: Start::Down,
    }
}

fn tcp(target: SocketAddr) -> CheckSpec {
    spec(CheckKind::Tcp, target)
}

fn http(target: SocketAddr) -> CheckSpec {
    let http = HttpSpec {
        method: "GET".to_owned(),
        path: "/health".to_owned(),
        host: None,
        headers: Vec::new(),
        status: vec![(200, 299)],
        version: HttpVersion::Http1,
        body_contains: Some("well".to_owned()),
        body_regex: None,
        body_sha256: None,
        tls: None,
    };
    spec(CheckKind::Http(http), target)
}

/// A port of this machine where nobody listens.
fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn steps(check: &Value) -> Vec<&str> {
    let steps = check["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect()
}

/// A control socket, and real servers 10.77.0.21, .22 and so on with these checks.
struct Daemon {
    runtime: Option<Runtime>,
    socket: PathBuf,
}

impl Daemon {
    fn start(checks: Vec<Vec<CheckSpec>>) -> Daemon {
        Daemon::with(checks, None)
    }

    fn hindered(checks: Vec<Vec<CheckSpec>>, why: &str) -> Daemon {
        Daemon::with(checks, Some(why.to_owned()))
    }

    fn with(checks: Vec<Vec<CheckSpec>>, hindered: Option<String>) -> Daemon {
        let runtime = Runtime::new().unwrap();
        let socket = scratch("sock");
        let listener = runtime.block_on(async {
            let (director, wakes) = mpsc::unbounded_channel();
            tokio::spawn(direct(checks, hindered, wakes));
            let api = Api {
                director,
                reconciler: Arc::new(Reconciler::start(|_| {}).unwrap()),
                events: Arc::new(Events::default()),
            };
            (UnixListener::bind(&socket).unwrap(), api)
        });
        runtime.spawn(async move { axum::serve(listener.0, control(listener.1)).await.unwrap() });
        Daemon {
            runtime: Some(runtime),
            socket,
        }
    }

    fn vipctl(&self, words: &[&str]) -> Output {
        vipctl(&self.socket, words)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.runtime
            .take()
            .unwrap()
            .shutdown_timeout(Duration::from_secs(10));
        let _ = fs::remove_file(&self.socket);
    }
}

async fn direct(
    checks: Vec<Vec<CheckSpec>>,
    hindered: Option<String>,
    mut wakes: mpsc::UnboundedReceiver<Wake>,
) {
    let address = |number| format!("10.77.0.{}", 21 + number);
    while let Some(wake) = wakes.recv().await {
        match wake {
            Wake::Status(reply) => {
                let mut status = healthy();
                let servers = &mut status.virtual_servers[0].real_servers;
                let one = servers[0].clone();
                *servers = (0..checks.len())
                    .map(|number| {
                        let mut real = one.clone();
                        real.address = address(number);
                        real
                    })
                    .collect();
                let _ = reply.send(status);
            }
            Wake::Checks {
                virtual_server,
                reply,
            } => {
                assert_eq!(virtual_server, "http");
                let targets = checks
                    .iter()
                    .enumerate()
                    .map(|(number, checks)| CheckTarget {
                        real_server: address(number),
                        checks: checks
                            .iter()
                            .map(|spec| PlannedCheck {
                                spec: spec.clone(),
                                hindered: hindered.clone(),
                            })
                            .collect(),
                    });
                let _ = reply.send(targets.collect());
            }
            other => panic!("{other:?} was not expected"),
        }
    }
}

fn vipctl(socket: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipctl"));
    command
        .arg("--socket")
        .arg(socket)
        .args(words)
        .output()
        .unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A path of this process and test alone.
fn scratch(kind: &str) -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("vipd-check-{}-{number}.{kind}", std::process::id());
    std::env::temp_dir().join(name)
}

/// An nginx on a port of its own.
struct Nginx {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Nginx {
    fn start() -> Nginx {
        let (folder, address) = (scratch("nginx"), refused());
        fs::create_dir_all(&folder).unwrap();
        let prefix = folder.display();
        let config = format!(
            "daemon off; master_process off; pid {prefix}/pid; error_log stderr;
             events {{ }}
             http {{
                 access_log off;
                 client_body_temp_path {prefix}; proxy_temp_path {prefix}; uwsgi_temp_path {prefix};
                 fastcgi_temp_path {prefix}; scgi_temp_path {prefix};
                 server {{ listen {address}; location /health {{ return 200 well; }} }}
             }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .args(["-e", "stderr", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx {
            child,
            folder,
            address,
        };
        let started = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "no nginx");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
