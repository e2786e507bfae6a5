//! Events of the engine to server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use super::engine::{Ended, Event};
use super::error::ApiError;
use super::openai::reply::{Format, Head};
use super::running::Registered;

/// How often a silent stream says that it is alive: proxies close connections on which nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An answer in chunks. `first` is the event that has come already.
pub fn answer(
    head: Head,
    format: impl Format,
    n_choices: usize,
    first: (usize, Event),
    events: mpsc::Receiver<(usize, Event)>,
    registered: Registered,
) -> Response {
    let chunks = Chunks {
        format: Box::new(format),
        opened: vec![false; n_choices],
        ended: Vec::new(),
        out: VecDeque::new(),
        done: false,
        head,
        events,
        _registered: registered,
    };
    Sse::new(chunks.after(first)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

struct Chunks {
    head: Head,
    format: Box<dyn Format>,
    events: mpsc::Receiver<(usize, Event)>,
    opened: Vec<bool>,
    ended: Vec<Ended>,
    out: VecDeque<sse::Event>,
    done: bool,
    /// Removes the answer's id when the stream is done or dropped.
    _registered: Registered,
}

impl Chunks {
    fn after(mut self, first: (usize, Event)) -> Self {
        self.take(first.0, first.1);
        self
    }

    fn push(&mut self, value: &Value) {
        let event = sse::Event::default().data(value.to_string());
        let name = value["type"].as_str().filter(|_| self.format.names_events());
        self.out.push_back(match name {
            Some(name) => event.event(name),
            None => event,
        });
    }

    fn push_all(&mut self, values: &[Value]) {
        values.iter().for_each(|value| self.push(value));
    }

    fn take(&mut self, index: usize, event: Event) {
        if !matches!(event, Event::Failed(_)) && !std::mem::replace(&mut self.opened[index], true) {
            let open = self.format.open(&self.head, index);
            self.push_all(&open);
        }
        match event {
            Event::Piece(piece) if piece.text.is_empty() && piece.report.is_none() && !self.format.lists_tokens() => {}
            Event::Piece(piece) => {
                let chunks = self.format.piece(&self.head, index, &piece);
                self.push_all(&chunks);
            }
            Event::Ended(ended) => {
                let chunks = self.format.ended(&self.head, index, &ended);
                self.push_all(&chunks);
                self.ended.push(ended);
                if self.ended.len() == self.opened.len() {
                    let usage = self.format.usage(&self.head, &self.ended);
                    self.push_all(&usage);
                    self.finish();
                }
            }
            Event::Failed(error) => self.fail(&error),
            Event::Scored(_) => {}
        }
    }

    fn fail(&mut self, error: &ApiError) {
        let chunks = self.format.failed(&self.head, error);
        self.push_all(&chunks);
        self.finish();
    }

    fn finish(&mut self) {
        if self.format.says_done() {
            self.out.push_back(sse::Event::default().data("[DONE]"));
        }
        self.done = true;
    }
}

impl Stream for Chunks {
    type Item = Result<sse::Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.events.poll_recv(cx)) {
                Some((index, event)) => self.take(index, event),
                None => {
                    // The engine gave the text up without a word.
                    self.fail(&ApiError::shutting_down());
                }
            }
        }
    }
}
