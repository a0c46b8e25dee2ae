//! The picture: what is wrong, the list, the last events, one line for orders. Only the rows that
//! are seen are made, so that ten thousand cost what twenty do.

use std::time::{Duration, SystemTime};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Wrap};

use super::frame::{headline, short};
use super::rows::{Row, active, inactive};
use super::view::{Mode, View};
use crate::status::{
    ConnectionsStatus, RealServerStatus, TrafficStatus, VirtualServerStatus, VrrpStatus, plain,
    problems,
};

/// Longer than an answer of a daemon that is well takes.
const SILENCE: Duration = Duration::from_secs(3);
/// Lines of problems; `vipctl status` has all.
const PROBLEMS_MAX: usize = 4;
const EVENTS_MAX: u16 = 8;
/// Narrower screens do without packets.
const WIDE: u16 = 100;
const KEYS: &str =
    "q quit  ? help  ↑↓ move  s sort  / filter  d drain  e enable  x disable  o switch over";
const HELP: &str = "\
 ↑ ↓ PgUp PgDn Home End   move (also k j, space, g G)
 s S                      sort by the next, the last: conn/s, bytes/s, active, state, weight,
                          name, as configured
 /                        show only what has this in its name, address or state; Esc: all
 d                        drain a real server: no new connections
 x                        disable a real server: out of the pool, connections break
 e                        enable a real server again
 o                        switch a virtual router over to its peer
 q                        quit

 Rates are the kernel's: an average over some seconds. OUT is for NAT only; other forwarding
 does not come back through the director.

 Any key goes on.";

impl View {
    /// Draws it.
    pub fn draw(&mut self, frame: &mut Frame<'_>, now: SystemTime) {
        let area = frame.area();
        let head = self.head(area, now);
        let foot = Paragraph::new(self.foot()).wrap(Wrap { trim: false });
        // The foot may need several lines where it asks for a yes.
        let foot_height = self.foot_height(area);
        let events = (area.height / 4).min(EVENTS_MAX);
        let [head_area, heads_area, list_area, events_area, foot_area] = Layout::vertical([
            Constraint::Length(u16::try_from(head.len()).unwrap_or(1)),
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(events),
            Constraint::Length(foot_height),
        ])
        .areas(area);
        frame.render_widget(Paragraph::new(head), head_area);
        self.list(frame, heads_area, list_area);
        self.last_events(frame, events_area);
        frame.render_widget(foot, foot_area);
        if self.mode == Mode::Help {
            let help = Rect {
                y: area.y + 1,
                height: area.height.saturating_sub(1),
                ..area
            };
            frame.render_widget(Clear, help);
            frame.render_widget(Paragraph::new(HELP), help);
        }
    }

    fn head(&self, area: Rect, now: SystemTime) -> Vec<Line<'static>> {
        let red = Style::new().fg(Color::Red);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut lines = vec![Line::styled(plain(&headline(&self.status)), bold)];
        let silent = now.duration_since(self.answered).unwrap_or_default();
        if self.silence.is_some() || silent > SILENCE {
            let why = self.silence.as_deref().unwrap_or("vipd is busy");
            let seconds = silent.as_secs();
            let words = format!("no answer since {seconds} s; below is what was then: {why}");
            lines.push(Line::styled(
                plain(&words),
                red.add_modifier(Modifier::BOLD),
            ));
        }
        let problems = problems(&self.status, now);
        let room = usize::from(area.height / 6).clamp(1, PROBLEMS_MAX);
        let shown = problems.iter().take(room);
        lines.extend(shown.map(|problem| {
            let first = problem.lines().next().unwrap_or_default();
            Line::styled(format!("! {}", plain(first)), red)
        }));
        if problems.len() > room {
            let more = problems.len() - room;
            lines.push(Line::styled(
                format!("! and {more} more: vipctl status"),
                red,
            ));
        }
        lines
    }

    fn list(&mut self, frame: &mut Frame<'_>, heads: Rect, area: Rect) {
        self.page = usize::from(area.height).max(1);
        let last = self.selected.saturating_sub(self.page - 1);
        self.first = self.first.clamp(last.min(self.selected), self.selected);
        // A list that became shorter begins where it fills the screen.
        let fills = self.rows.len().saturating_sub(self.page);
        self.first = self.first.min(fills);
        let width = area.width;
        let routers = matches!(self.rows.get(self.first), Some(Row::Router(_)));
        let title = if routers {
            router_line("ROUTER", "STATE", "PRIO", "MASTER", "ADDRESSES", width)
        } else {
            let names = Columns {
                name: "VIRTUAL SERVER / real server".to_owned(),
                state: "STATE".to_owned(),
                weight: "WEIGHT".to_owned(),
                numbers: [
                    "ACTIVE", "INACT", "CONN/S", "IN P/S", "OUT P/S", "IN B/S", "OUT B/S",
                ]
                .map(str::to_owned),
            };
            names.line(width)
        };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Line::styled(title, bold), heads);
        let seen = self.rows.iter().enumerate().skip(self.first);
        let lines = seen.take(self.page).filter_map(|(number, row)| {
            let (text, color) = self.row(*row, width)?;
            let mut style = Style::new();
            if let Some(color) = color {
                style = style.fg(color);
            }
            if number == self.selected {
                style = style.add_modifier(Modifier::REVERSED);
            }
            Some(Line::styled(text, style))
        });
        let lines: Vec<Line<'_>> = lines.collect();
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn row(&self, row: Row, width: u16) -> Option<(String, Option<Color>)> {
        let server_of = |number: usize| self.status.virtual_servers.get(number);
        Some(match row {
            Row::Router(router) => router_row(self.status.vrrp.get(router)?, width),
            Row::Server(server) => server_row(server_of(server)?, width),
            Row::Real(server, real) => real_row(server_of(server)?.real_servers.get(real)?, width),
        })
    }

    fn last_events(&self, frame: &mut Frame<'_>, area: Rect) {
        let room = usize::from(area.height).saturating_sub(1);
        let place = self.rows.len().min(self.selected + 1);
        let filter = match self.filter.as_str() {
            "" => String::new(),
            filter => format!(", with {}", plain(filter)),
        };
        let title = format!(
            "row {place} of {}, by {}{filter}; last events:",
            self.rows.len(),
            self.sort.name()
        );
        let dim = Style::new().add_modifier(Modifier::DIM);
        let mut lines = vec![Line::styled(title, dim)];
        let older = self.events.len().saturating_sub(room);
        let newest = self.events.iter().skip(older);
        lines.extend(newest.map(|event| {
            let line = event.line();
            Line::raw(line.lines().next().unwrap_or_default().to_owned())
        }));
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn foot(&self) -> Line<'static> {
        let yellow = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
        match (&self.mode, &self.said) {
            (Mode::Confirming(order), _) => Line::from(vec![
                Span::styled(plain(order.words()), yellow),
                Span::raw(" - y: do it, any other key: do not"),
            ]),
            (Mode::Filtering, _) => Line::styled(format!("/{}_", plain(&self.filter)), yellow),
            (Mode::Waiting, None) => Line::styled("ordered, waiting for the answer", yellow),
            (_, Some(Ok(words))) => {
                Line::styled(plain(&one_line(words)), Style::new().fg(Color::Green))
            }
            (_, Some(Err(why))) => Line::styled(plain(&one_line(why)), Style::new().fg(Color::Red)),
            (Mode::Watching | Mode::Help, None) => Line::raw(KEYS),
        }
    }

    fn foot_height(&self, area: Rect) -> u16 {
        let width = usize::from(area.width).max(1);
        let asks = matches!(self.mode, Mode::Confirming(_)) || self.said.is_some();
        if !asks {
            return 1;
        }
        // Wrapping between words leaves some room at the ends of lines.
        let lines = self.foot().width() * 10 / 9 / width + 1;
        u16::try_from(lines)
            .unwrap_or(1)
            .min(area.height / 3)
            .max(1)
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

fn router_row(router: &VrrpStatus, width: u16) -> (String, Option<Color>) {
    let master = match &router.master {
        _ if router.state == "master" => "this".to_owned(),
        Some(master) => master.address.clone(),
        None => "-".to_owned(),
    };
    let priority = router.priority.effective.to_string();
    let addresses = router.virtual_addresses.join(" ");
    let faults = router.faults.join("; ");
    let last = if faults.is_empty() { addresses } else { faults };
    let color = match router.state.as_str() {
        "master" => Some(Color::Green),
        "fault" => Some(Color::Red),
        _ => None,
    };
    let text = router_line(
        &router.name,
        &router.state,
        &priority,
        &master,
        &last,
        width,
    );
    (text, color)
}

fn router_line(
    name: &str,
    state: &str,
    priority: &str,
    master: &str,
    last: &str,
    width: u16,
) -> String {
    let name = fit(name, if width < WIDE { 16 } else { 24 });
    plain(&format!(
        "{name}  {state:<10}  {priority:>4}  {master:<15}  {last}"
    ))
}

fn server_row(server: &VirtualServerStatus, width: u16) -> (String, Option<Color>) {
    let (state, color) = match (server.missing, server.quorum.up) {
        (true, _) => ("MISSING", Some(Color::Red)),
        (false, false) => ("NO QUORUM", Some(Color::Red)),
        (false, true) => ("up", Some(Color::Cyan)),
    };
    let line = Columns::of(
        format!("{} {}", server.name, server.address),
        state.to_owned(),
        server.quorum.have.to_string(),
        [active(server), inactive(server)],
        &server.rates,
    );
    (line.line(width), color)
}

fn real_row(real: &RealServerStatus, width: u16) -> (String, Option<Color>) {
    let color = match real.state.as_str() {
        "up" => None,
        "down" => Some(Color::Red),
        _ => Some(Color::Yellow),
    };
    let ConnectionsStatus {
        active, inactive, ..
    } = real.connections;
    let line = Columns::of(
        format!("  {}", real.address),
        real.state.clone(),
        real.weight.effective.to_string(),
        [active.into(), inactive.into()],
        &real.rates,
    );
    (line.line(width), color)
}

/// A line of the list of servers.
struct Columns {
    name: String,
    state: String,
    weight: String,
    /// Active, inactive, connections, packets in and out, bytes in and out.
    numbers: [String; 7],
}

impl Columns {
    fn of(
        name: String,
        state: String,
        weight: String,
        [active, inactive]: [u64; 2],
        rates: &TrafficStatus,
    ) -> Columns {
        let numbers = [
            active,
            inactive,
            rates.connections,
            rates.in_packets,
            rates.out_packets,
            rates.in_bytes,
            rates.out_bytes,
        ];
        Columns {
            name,
            state,
            weight,
            numbers: numbers.map(short),
        }
    }

    fn line(&self, width: u16) -> String {
        let [
            active,
            inactive,
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        ] = &self.numbers;
        let (state, weight) = (&self.state, &self.weight);
        let mut rest = format!(" {state:<9} {weight:>6} {active:>7}");
        let wide = width >= WIDE;
        if wide {
            rest.push_str(&format!(" {inactive:>7}"));
        }
        rest.push_str(&format!(" {connections:>7}"));
        if wide {
            rest.push_str(&format!(" {in_packets:>7} {out_packets:>7}"));
        }
        rest.push_str(&format!(" {in_bytes:>7} {out_bytes:>7}"));
        let room = usize::from(width).saturating_sub(rest.chars().count());
        plain(&format!("{}{rest}", fit(&self.name, room.max(12))))
    }
}

/// A text in exactly so many characters.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let cut = text.chars().take(width.saturating_sub(1));
    cut.chain(['~']).collect()
}
