//! `vipctl top`: what goes through the director, live. It asks for the status every second and draws
//! it; orders go the way of any other client. Drawing and keys are values ([`View`]): no terminal, no
//! clock, no daemon is needed to test them.
//!
//! A daemon that is gone is waited for; what it said last stays on the screen, with the time since.

mod draw;
mod frame;
mod order;
mod rows;
mod view;

use std::io::{self, IsTerminal, Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input, KeyEvent, KeyEventKind};
use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::control::client;
use crate::events::Event;
use crate::status::Status;

pub use self::frame::{Size, frame};
pub use self::order::Order;
pub use self::view::{Step, View};

/// How often the daemon is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// What a pipe has that does not tell.
const DEFAULT_COLUMNS: usize = 80;
/// Events that are asked for; more than a usual terminal has room for.
const EVENTS: usize = 20;

/// Shows what goes on until somebody presses `q`; one frame where `once`, or where there is no
/// terminal.
///
/// # Errors
///
/// No daemon; later, that it is gone is shown on the screen.
pub async fn run(socket: &Path, once: bool) -> Result<(), String> {
    let status = client::status(socket).await?;
    if once || !stdout().is_terminal() || !io::stdin().is_terminal() {
        // One frame for a reader shows all there is.
        let columns = tcgetwinsize(stdout()).map_or(0, |size| usize::from(size.ws_col));
        let size = Size {
            columns: if columns == 0 {
                DEFAULT_COLUMNS
            } else {
                columns
            },
            rows: usize::MAX,
        };
        let _ = write!(stdout(), "{}", frame(&status, size));
        return Ok(());
    }
    watch(socket, status)
        .await
        .map_err(|error| format!("the terminal: {error}"))
}

/// The status and the last events, or why there is no answer.
type Answer = Result<(Status, Vec<Event>), String>;

/// What the screen waits for.
enum Wake {
    Key(KeyEvent),
    Answer(Box<Answer>),
    Done(Result<String, String>),
    Redraw,
    /// The terminal is gone, or a signal says to end.
    End,
}

async fn watch(socket: &Path, status: Status) -> io::Result<()> {
    let (wakes, mut next) = unbounded_channel();
    let again = Arc::new(Notify::new());
    end_on_signals(&wakes)?;
    let mut screen = Screen::take()?;
    read_keys(wakes.clone())?;
    tokio::spawn(ask(socket.to_owned(), wakes.clone(), Arc::clone(&again)));
    let mut view = View::new(status, SystemTime::now());
    loop {
        let now = SystemTime::now();
        screen.0.draw(|frame| view.draw(frame, now))?;
        // A second that brings nothing is drawn, too: the time without an answer goes up.
        let wake = tokio::time::timeout(REFRESH, next.recv()).await;
        match wake.unwrap_or(Some(Wake::Redraw)) {
            Some(Wake::Key(key)) => match view.key(key) {
                Step::Stay => {}
                Step::Quit => return Ok(()),
                Step::Do(order) => {
                    let (socket, wakes) = (socket.to_owned(), wakes.clone());
                    tokio::spawn(async move {
                        let _ = wakes.send(Wake::Done(order.carry_out(&socket).await));
                    });
                }
            },
            Some(Wake::Answer(answer)) => view.take(*answer, SystemTime::now()),
            Some(Wake::Done(result)) => {
                view.done(result);
                again.notify_one();
            }
            Some(Wake::Redraw) => {}
            Some(Wake::End) | None => return Ok(()),
        }
    }
}

/// Asks the daemon every second, and at once after an order.
async fn ask(socket: std::path::PathBuf, wakes: UnboundedSender<Wake>, again: Arc<Notify>) {
    let mut events = Vec::new();
    let mut last = None;
    loop {
        let answer: Answer = async {
            let status = client::status(&socket).await?;
            if last != Some(status.events_last_id) {
                events = client::newest_events(&socket, EVENTS).await?.events;
                last = Some(status.events_last_id);
            }
            Ok((status, events.clone()))
        }
        .await;
        if wakes.send(Wake::Answer(Box::new(answer))).is_err() {
            return;
        }
        let _ = tokio::time::timeout(REFRESH, again.notified()).await;
    }
}

/// Reading keys blocks, so that is a thread; it ends with the program.
fn read_keys(wakes: UnboundedSender<Wake>) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("keys".to_owned());
    thread.spawn(move || {
        loop {
            let wake = match event::read() {
                Ok(Input::Key(key)) if key.kind != KeyEventKind::Release => Wake::Key(key),
                Ok(Input::Resize(..)) => Wake::Redraw,
                Ok(_) => continue,
                Err(_) => Wake::End,
            };
            let end = matches!(wake, Wake::End);
            if wakes.send(wake).is_err() || end {
                return;
            }
        }
    })?;
    Ok(())
}

fn end_on_signals(wakes: &UnboundedSender<Wake>) -> io::Result<()> {
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut signal = signal(kind)?;
        let wakes = wakes.clone();
        tokio::spawn(async move {
            signal.recv().await;
            let _ = wakes.send(Wake::End);
        });
    }
    Ok(())
}

/// The terminal while it is ours. It is as it was before when this is dropped, and before a panic
/// tells its story.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Screen> {
        ratatui::try_init().map(Screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
        let _ = self.0.show_cursor();
    }
}
