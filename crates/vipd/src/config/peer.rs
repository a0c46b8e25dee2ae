//! Two directors' files that should agree: `vipd check --peer FILE`.
//!
//! What only one of them may have (its interfaces, its own addresses, its priority) is not compared,
//! but for priorities that are equal.

mod routers;
mod servers;

use std::fmt::Display;

use annotate_snippets::{Level, Renderer};
use serde::Serialize;

use super::examine::Place;
use super::locate::Step;
use super::{Examined, problem};

/// Disagreements that are looked up in the files; of more only the number is said.
const SHOWN_MAX: usize = 100;

/// Something in which two files differ, or are too much alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// Whether it may be meant.
    pub warning: bool,
    /// What it is.
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// Where it stands in the file that is checked.
    pub own: At,
    /// Where it stands in the file of the peer.
    pub peer: At,
    #[serde(skip)]
    places: [Place; 2],
}

/// A place in one of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct At {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// The path of the key.
    pub key: String,
}

/// What differs, before it is looked up.
#[derive(Debug)]
struct Difference {
    warning: bool,
    own: Vec<Step>,
    peer: Vec<Step>,
    message: String,
    help: String,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Differences(Vec<Difference>);

impl Differences {
    /// Something that cannot work, or not as meant.
    fn add(&mut self, own: Vec<Step>, peer: Vec<Step>, message: impl Display, help: impl Display) {
        self.0.push(Difference {
            warning: false,
            own,
            peer,
            message: message.to_string(),
            help: help.to_string(),
        });
    }

    /// Something that may be meant.
    fn warn(&mut self, own: Vec<Step>, peer: Vec<Step>, message: impl Display, help: impl Display) {
        self.add(own, peer, message, help);
        if let Some(last) = self.0.last_mut() {
            last.warning = true;
        }
    }
}

/// Two files, and in what they disagree.
pub struct Comparison<'e> {
    own: &'e Examined,
    peer: &'e Examined,
    /// The first hundred, in the order of the first file.
    pub found: Vec<Disagreement>,
    /// How many there are.
    pub count: usize,
}

impl Examined {
    /// Compares the file with that of another director.
    #[must_use]
    pub fn compare<'e>(&'e self, peer: &'e Examined) -> Comparison<'e> {
        let mut differences = Differences::default();
        routers::compare(&self.config, &peer.config, &mut differences);
        servers::compare(&self.config, &peer.config, &mut differences);
        let count = differences.0.len();
        let place = |difference: Difference| {
            let places = [self.place(&difference.own), peer.place(&difference.peer)];
            let at = |place: &Place, file: &Examined| At {
                file: file.file_name.clone(),
                line: place.line,
                column: place.column,
                key: place.key.clone(),
            };
            let [here, there] = &places;
            Disagreement {
                warning: difference.warning,
                message: difference.message,
                help: difference.help,
                own: at(here, self),
                peer: at(there, peer),
                places,
            }
        };
        let mut found: Vec<Disagreement> = differences
            .0
            .into_iter()
            .take(SHOWN_MAX)
            .map(place)
            .collect();
        found.sort_by_key(|one| (one.own.line, one.own.column));
        Comparison {
            own: self,
            peer,
            found,
            count,
        }
    }
}

impl Comparison<'_> {
    /// Whether something is more than a warning.
    #[must_use]
    pub fn disagrees(&self) -> bool {
        self.count > self.found.len() || self.found.iter().any(|one| !one.warning)
    }

    /// Each disagreement with its places in both files, and how many there are.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let mut text = problem::rendered(&self.found, self.count, color, |one, renderer| {
            self.render_one(one, renderer)
        });
        let (own, peer) = (&self.own.file_name, &self.peer.file_name);
        text.push_str(&match self.count {
            0 => format!("{own} and {peer} agree"),
            1 => format!("1 disagreement between {own} and {peer}"),
            count => format!("{count} disagreements between {own} and {peer}"),
        });
        text
    }

    fn render_one(&self, one: &Disagreement, renderer: &Renderer) -> String {
        let At {
            file,
            line,
            column,
            key,
        } = &one.own;
        let warning = if one.warning { "warning: " } else { "" };
        let separator = if key.is_empty() { "" } else { ": " };
        let title = format!(
            "{file}:{line}:{column}: {warning}{key}{separator}{}",
            one.message
        );
        let [here, there] = &one.places;
        let snippet = |file: &Examined, place: &Place| {
            problem::snippet(&file.shown, place.line, &place.span, None)
                .path(file.file_name.clone())
        };
        let group = Level::ERROR
            .no_name()
            .primary_title(title)
            .element(snippet(self.own, here))
            .element(snippet(self.peer, there))
            .element(Level::HELP.message(&one.help));
        renderer.render(&[group])
    }
}
