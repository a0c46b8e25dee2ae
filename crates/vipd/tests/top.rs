//! `vipctl top`: the frame for pipes, and the screen with its keys, drawn without a terminal.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod fixture;

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use vipd::events::{Events, Kind};
use vipd::status::{QuorumStatus, Status, TrafficStatus, VirtualServerStatus};
use vipd::top::{Size, Step, View, frame};

use self::fixture::{healthy, now};

const TERMINAL: Size = Size {
    columns: 80,
    rows: 24,
};

#[test]
fn a_frame_shows_routers_above_and_virtual_servers_with_their_real_servers() {
    let mut status = healthy();
    let server = &mut status.virtual_servers[0];
    server.rates = TrafficStatus {
        connections: 12,
        in_packets: 100,
        out_packets: 0,
        in_bytes: 123_456_789,
        out_bytes: 0,
    };
    server.counters.connections = 1_234_567;
    let text = frame(&status, TERMINAL);
    let wanted = "\
lb1: 12 conn/s, 3 active, 1 of 1 real servers up
vrrp web master priority 150

VIRTUAL SERVER / real server   weight  active   conn/s   in B/s  out B/s   total
http 10.77.0.10:80                          3       12     123M        0   1234k
  -> 10.77.0.21:80                  1       3        0        0        0       0
";
    assert_eq!(text, wanted);
}

#[test]
fn the_busiest_virtual_server_stands_first() {
    let mut status = healthy();
    let mut busy = status.virtual_servers[0].clone();
    busy.name = "busy".to_owned();
    busy.rates.connections = 5;
    status.virtual_servers.push(busy);
    let text = frame(&status, TERMINAL);
    assert!(
        text.find("busy ").unwrap() < text.find("http ").unwrap(),
        "{text}"
    );
}

#[test]
fn a_frame_is_never_larger_than_the_terminal() {
    let mut status = healthy();
    let server = status.virtual_servers[0].clone();
    status.virtual_servers = vec![server; 20];
    status.virtual_servers[3].name = "ü".repeat(50);
    for (columns, rows) in [(80, 24), (40, 5), (1, 1), (80, 1000)] {
        let text = frame(&status, Size { columns, rows });
        assert!(text.lines().count() <= rows, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= columns),
            "{text}"
        );
    }
    let text = frame(&status, TERMINAL);
    assert!(text.ends_with("... 21 more lines; q quits\n"), "{text}");
}

#[test]
fn the_screen_shows_routers_servers_rates_and_the_last_events() {
    let mut view = View::new(busy(), now());
    let events = Events::default();
    events.record(Kind::VrrpMaster, "web", "no master was heard");
    view.take(Ok((busy(), events.newest(9).events)), now());
    let screen = screen(&mut view, 110, 16);
    let wanted = "\
lb1: 12 conn/s, 3 active, 1 of 1 real servers up
ROUTER                    STATE       PRIO  MASTER           ADDRESSES
web                       master       150  this             10.77.0.10/24 10.77.0.9/24
http 10.77.0.10:80                    up             2       3      10      12     100       0    123M       0
  10.77.0.21:80                       up             1       3      10       0       0       0       0       0




";
    assert!(screen.starts_with(wanted), "{screen}");
    assert!(
        screen.contains("row 1 of 3, by conn/s; last events:"),
        "{screen}"
    );
    assert!(screen.contains("vrrp.master       web"), "{screen}");
    assert!(screen.contains("q quit  ? help"), "{screen}");
}

#[test]
fn what_is_wrong_stands_above_everything() {
    let mut status = healthy();
    status.vrrp[0].faults = vec!["the interface is down".to_owned()];
    status.virtual_servers[0].quorum = QuorumStatus {
        needed: 1,
        have: 0,
        up: false,
    };
    let text = screen(&mut View::new(status, now()), 80, 24);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "! virtual router web: the interface is down");
    assert_eq!(lines[2], "! virtual server http: no quorum, weight 0 of 1");
}

#[test]
fn an_order_is_asked_for_exactly_and_given_only_after_a_yes() {
    let mut view = View::new(healthy(), now());
    // On a virtual router there is nothing to drain.
    assert_eq!(press(&mut view, "d"), Step::Stay);
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("select a real server to drain"), "{text}");
    press(&mut view, "jj");
    assert_eq!(press(&mut view, "d"), Step::Stay);
    let text = screen(&mut view, 80, 24);
    assert!(
        text.contains("drain 10.77.0.21:80 of http: it gets no new connections, the 3 it has go"),
        "{text}"
    );
    assert!(text.contains("y: do it"), "{text}");
    assert_eq!(press(&mut view, "n"), Step::Stay);
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("nothing was done"), "{text}");
    for (key, words) in [("d", "drain "), ("x", "disable "), ("e", "enable ")] {
        press(&mut view, key);
        let Step::Do(order) = press(&mut view, "y") else {
            panic!("{key}");
        };
        assert!(order.words().starts_with(words), "{order:?}");
        assert!(screen(&mut view, 80, 24).contains("waiting for the answer"));
        // No second order while the first is on its way.
        press(&mut view, "d");
        assert_eq!(press(&mut view, "y"), Step::Stay);
        view.done(Ok(format!("{key} was done")));
        let text = screen(&mut view, 80, 24);
        assert!(text.contains(&format!("{key} was done")), "{text}");
    }
    press(&mut view, "go");
    let text = screen(&mut view, 80, 24);
    let words = "switch web over: its addresses (10.77.0.10/24 10.77.0.9/24) go to a peer now";
    assert!(text.contains(words), "{text}");
    assert!(matches!(press(&mut view, "y"), Step::Do(_)));
    view.done(Err("nobody took over".to_owned()));
    assert!(screen(&mut view, 80, 24).contains("nobody took over"));
}

#[test]
fn the_selection_stays_with_its_object_whatever_the_order() {
    let mut status = healthy();
    let mut other = status.virtual_servers[0].clone();
    other.name = "other".to_owned();
    status.virtual_servers.push(other);
    let mut view = View::new(status.clone(), now());
    press(&mut view, "jj");
    status.virtual_servers[1].rates.connections = 9;
    view.take(Ok((status, vec![])), now());
    press(&mut view, "d");
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("drain 10.77.0.21:80 of http:"), "{text}");
    assert!(text.find("other ").unwrap() < text.find("http ").unwrap());
    press(&mut view, "n");
    for name in [
        "bytes/s",
        "active",
        "state",
        "weight",
        "name",
        "configuration",
        "conn/s",
    ] {
        press(&mut view, "s");
        let text = screen(&mut view, 80, 24);
        assert!(text.contains(&format!(", by {name}; ")), "{text}");
    }
    press(&mut view, "S");
    assert!(screen(&mut view, 80, 24).contains(", by configuration; "));
}

#[test]
fn a_filter_leaves_what_has_it_in_its_name_address_or_state() {
    let mut view = View::new(large(), now());
    press(&mut view, "/service-7_");
    view.key(KeyEvent::from(KeyCode::Backspace));
    view.key(KeyEvent::from(KeyCode::Enter));
    let text = screen(&mut view, 80, 24);
    assert!(
        text.contains("row 1 of 1111, by conn/s, with service-7"),
        "{text}"
    );
    assert!(
        text.contains("service-7 ") && !text.contains("service-1 "),
        "{text}"
    );
    view.key(KeyEvent::from(KeyCode::Esc));
    assert!(screen(&mut view, 80, 24).contains(" of 10101, by conn/s; "));
    press(&mut view, "/10.3.7.");
    assert!(screen(&mut view, 80, 24).contains("of 2, by conn/s, with 10.3.7."));
}

#[test]
fn ten_thousand_real_servers_scroll_from_end_to_end_without_getting_slow() {
    let mut view = View::new(large(), now());
    press(&mut view, "G");
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("10.99.99.1:80"), "{text}");
    assert!(text.contains("row 10101 of 10101"), "{text}");
    view.key(KeyEvent::from(KeyCode::PageUp));
    press(&mut view, "j");
    assert!(!screen(&mut view, 80, 24).contains("row 10101 of"));
    press(&mut view, "g");
    assert!(screen(&mut view, 80, 24).contains("row 1 of 10101"));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        press(&mut view, "j");
        terminal.draw(|frame| view.draw(frame, now())).unwrap();
    }
    // A debug build on a busy machine; each picture costs what its 24 lines cost.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "100 pictures took {took:?}");
}

#[test]
fn a_daemon_that_is_silent_is_told_with_the_seconds_since_and_forgotten_when_it_is_back() {
    let mut view = View::new(healthy(), now());
    let later = now() + Duration::from_secs(12);
    view.take(Err("/run/x.sock: vipd is not running".to_owned()), later);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| view.draw(frame, later)).unwrap();
    let text = text_of(&terminal);
    assert!(text.contains("no answer since 12 s"), "{text}");
    assert!(
        text.contains("10.77.0.21:80"),
        "what it said last stays: {text}"
    );
    view.take(Ok((healthy(), vec![])), later);
    terminal.draw(|frame| view.draw(frame, later)).unwrap();
    assert!(!text_of(&terminal).contains("no answer"));
}

#[test]
fn any_size_of_screen_and_any_text_can_be_drawn() {
    let mut status = large();
    status.virtual_servers[0].name = "\x1b[31mü界".repeat(40);
    status.vrrp[0].faults = vec!["two\nlines".to_owned(); 9];
    let mut view = View::new(status, now());
    press(&mut view, "jjjd");
    for (width, height) in [(1, 1), (3, 2), (20, 5), (80, 3), (300, 100)] {
        screen(&mut view, width, height);
        press(&mut view, "n?");
        let text = screen(&mut view, width, height);
        assert!(!text.contains('\x1b'));
        press(&mut view, " ");
    }
}

#[test]
fn q_and_ctrl_c_end_it_from_everywhere_but_the_filter() {
    let mut view = View::new(healthy(), now());
    assert_eq!(press(&mut view, "?q"), Step::Quit);
    assert_eq!(press(&mut view, "q"), Step::Quit);
    assert_eq!(press(&mut view, "/q"), Step::Stay);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.key(ctrl_c), Step::Quit);
}

fn busy() -> Status {
    let mut status = healthy();
    status.virtual_servers[0].rates = TrafficStatus {
        connections: 12,
        in_packets: 100,
        out_packets: 0,
        in_bytes: 123_456_789,
        out_bytes: 0,
    };
    status
}

/// One virtual router, a hundred virtual servers of a hundred real servers each.
fn large() -> Status {
    let mut status = healthy();
    let server = status.virtual_servers.remove(0);
    let named = |number: usize| {
        let real = |n: usize| {
            let mut real = server.real_servers[0].clone();
            real.address = format!("10.{number}.{n}.1:80");
            real
        };
        VirtualServerStatus {
            name: format!("service-{number}"),
            real_servers: (0..100).map(real).collect(),
            ..server.clone()
        }
    };
    status.virtual_servers = (0..100).map(named).collect();
    status
}

/// Presses these letters; what follows from the last.
fn press(view: &mut View, letters: &str) -> Step {
    let mut step = Step::Stay;
    for letter in letters.chars() {
        step = view.key(KeyEvent::from(KeyCode::Char(letter)));
    }
    step
}

fn screen(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame, now())).unwrap();
    text_of(&terminal)
}

fn text_of(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    let lines = buffer.content().chunks(width).map(|cells| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}
