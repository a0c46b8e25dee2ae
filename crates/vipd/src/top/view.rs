//! What `vipctl top` shows at a moment, and what keys do to it.

use std::time::SystemTime;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::order::Order;
use super::rows::{Row, Sort, rows};
use crate::events::Event;
use crate::overrides::Change;
use crate::status::{RealServerStatus, Status, VirtualServerStatus, VrrpStatus};

/// The screen as a value.
#[derive(Debug)]
pub struct View {
    pub(super) status: Status,
    pub(super) events: Vec<Event>,
    pub(super) rows: Vec<Row>,
    /// The position of the selected row.
    pub(super) selected: usize,
    /// The first row on the screen, and how many there are room for; known when it is drawn.
    pub(super) first: usize,
    pub(super) page: usize,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// What came of the last order, or why there was none.
    pub(super) said: Option<Result<String, String>>,
    /// When the daemon last answered, and why it does not any more.
    pub(super) answered: SystemTime,
    pub(super) silence: Option<String>,
}

/// What keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Watching,
    Help,
    /// Letters are added to the filter.
    Filtering,
    /// A yes carries the order out.
    Confirming(Order),
    /// An order is on its way.
    Waiting,
}

/// What follows from a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing but another picture.
    Stay,
    /// The end.
    Quit,
    /// An order for the daemon.
    Do(Order),
}

/// What an object is known by while its position changes.
#[derive(PartialEq, Eq)]
enum Identity {
    Router(String),
    Server(String),
    Real(String, String),
}

impl View {
    /// The first picture.
    #[must_use]
    pub fn new(status: Status, now: SystemTime) -> View {
        let sort = Sort::Connections;
        View {
            rows: rows(&status, sort, ""),
            status,
            events: Vec::new(),
            selected: 0,
            first: 0,
            page: 1,
            sort,
            filter: String::new(),
            mode: Mode::Watching,
            said: None,
            answered: now,
            silence: None,
        }
    }

    /// Takes in what the daemon answered, or that it did not.
    pub fn take(&mut self, answer: Result<(Status, Vec<Event>), String>, now: SystemTime) {
        match answer {
            Ok((status, events)) => {
                let selected = self.identity();
                self.status = status;
                self.events = events;
                self.answered = now;
                self.silence = None;
                self.arrange(selected);
            }
            Err(why) => self.silence = Some(why),
        }
    }

    /// Takes in what came of an order.
    pub fn done(&mut self, result: Result<String, String>) {
        self.said = Some(result);
        if self.mode == Mode::Waiting {
            self.mode = Mode::Watching;
        }
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Step {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') {
                Step::Quit
            } else {
                Step::Stay
            };
        }
        match &self.mode {
            Mode::Watching | Mode::Waiting => self.command(key.code),
            Mode::Help => {
                self.mode = Mode::Watching;
                if key.code == KeyCode::Char('q') {
                    Step::Quit
                } else {
                    Step::Stay
                }
            }
            Mode::Filtering => {
                self.filter_key(key.code);
                Step::Stay
            }
            Mode::Confirming(order) => {
                let order = order.clone();
                if key.code == KeyCode::Char('y') {
                    self.mode = Mode::Waiting;
                    Step::Do(order)
                } else {
                    self.mode = Mode::Watching;
                    self.said = Some(Ok("nothing was done".to_owned()));
                    Step::Stay
                }
            }
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "keys that mean nothing are many, and will be more"
    )]
    fn command(&mut self, key: KeyCode) -> Step {
        match key {
            KeyCode::Char('q' | 'Q') => return Step::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filtering,
            KeyCode::Esc => {
                self.filter.clear();
                self.said = None;
                self.arrange(self.identity());
            }
            KeyCode::Char('s' | '>') => self.sort_by(self.sort.next()),
            KeyCode::Char('S' | '<') => self.sort_by(self.sort.previous()),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected + 1),
            KeyCode::PageUp => self.select(self.selected.saturating_sub(self.page)),
            KeyCode::PageDown | KeyCode::Char(' ') => self.select(self.selected + self.page),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Char('d') => self.order_real(Change::Drain),
            KeyCode::Char('x') => self.order_real(Change::Disable),
            KeyCode::Char('e') => self.order_real(Change::Enable),
            KeyCode::Char('o') => match self.router() {
                Some(router) => self.confirm(Order::switch_over(router)),
                None => self.refuse("select a virtual router to switch over"),
            },
            _ => {}
        }
        Step::Stay
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "keys that mean nothing are many, and will be more"
    )]
    fn filter_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.mode = Mode::Watching,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Watching;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.arrange(self.identity());
    }

    fn sort_by(&mut self, sort: Sort) {
        let selected = self.identity();
        self.sort = sort;
        self.arrange(selected);
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.rows.len().saturating_sub(1));
    }

    fn order_real(&mut self, change: Change) {
        match self.real() {
            Some((server, real)) => self.confirm(Order::real_server(change, server, real)),
            None => self.refuse("select a real server to drain, disable or enable it"),
        }
    }

    fn confirm(&mut self, order: Order) {
        if self.mode == Mode::Waiting {
            self.refuse("the order before this one is on its way");
        } else {
            self.said = None;
            self.mode = Mode::Confirming(order);
        }
    }

    fn refuse(&mut self, why: &str) {
        self.said = Some(Err(why.to_owned()));
    }

    /// Makes the list anew and finds what was selected in it.
    fn arrange(&mut self, selected: Option<Identity>) {
        self.rows = rows(&self.status, self.sort, &self.filter);
        let found = selected.and_then(|wanted| {
            let mut rows = self.rows.iter();
            rows.position(|row| self.names(*row, &wanted))
        });
        self.select(found.unwrap_or(self.selected));
    }

    fn identity(&self) -> Option<Identity> {
        Some(match *self.rows.get(self.selected)? {
            Row::Router(router) => Identity::Router(self.status.vrrp.get(router)?.name.clone()),
            Row::Server(server) => {
                Identity::Server(self.status.virtual_servers.get(server)?.name.clone())
            }
            Row::Real(server, real) => {
                let server = self.status.virtual_servers.get(server)?;
                let real = server.real_servers.get(real)?;
                Identity::Real(server.name.clone(), real.address.clone())
            }
        })
    }

    /// Whether a row is that object. Nothing is copied: there may be ten thousand rows to ask.
    fn names(&self, row: Row, identity: &Identity) -> bool {
        let server_of = |number: usize| self.status.virtual_servers.get(number);
        match (row, identity) {
            (Row::Router(router), Identity::Router(name)) => {
                let router = self.status.vrrp.get(router);
                router.is_some_and(|router| router.name == *name)
            }
            (Row::Server(server), Identity::Server(name)) => {
                server_of(server).is_some_and(|server| server.name == *name)
            }
            (Row::Real(server, real), Identity::Real(name, address)) => server_of(server)
                .is_some_and(|server| {
                    let real = server.real_servers.get(real);
                    server.name == *name && real.is_some_and(|real| real.address == *address)
                }),
            (Row::Router(_) | Row::Server(_) | Row::Real(..), _) => false,
        }
    }

    fn router(&self) -> Option<&VrrpStatus> {
        match *self.rows.get(self.selected)? {
            Row::Router(router) => self.status.vrrp.get(router),
            Row::Server(_) | Row::Real(..) => None,
        }
    }

    fn real(&self) -> Option<(&VirtualServerStatus, &RealServerStatus)> {
        match *self.rows.get(self.selected)? {
            Row::Real(server, real) => {
                let server = self.status.virtual_servers.get(server)?;
                Some((server, server.real_servers.get(real)?))
            }
            Row::Router(_) | Row::Server(_) => None,
        }
    }
}
