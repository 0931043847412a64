//! The display of a training run in progress, how it is stopped, and the files that it leaves behind.

use super::files::say;
use super::grey;
use super::train::source_name;
use anyhow::Result;
use face96::data::Face;
use face96::error::Error;
use face96::schema::Schema;
use face96::train::checkpoint::{write_atomically, State};
use face96::train::events::Events;
use face96::train::metrics::Score;
use face96::train::{self, report, Config, Epoch, Progress};
use face96::weights::Precision;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What standard output carries: sentences, or lines of JSON; the sentences then go to standard error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    Sentences,
    Json,
}

impl Tell {
    pub(super) fn json(json: bool) -> Self {
        if json {
            Self::Json
        } else {
            Self::Sentences
        }
    }

    pub(super) fn say(self, sentence: &str) {
        match self {
            // A run goes on where nobody can be told; at its end the table is an error then.
            Self::Sentences => drop(super::files::say(sentence)),
            Self::Json => eprintln!("{sentence}"),
        }
    }
}

/// The number of the signal that asked the run to stop; 0 for none.
static STOPPED: AtomicUsize = AtomicUsize::new(0);
/// Whether a second signal ends the program at once.
static AGAIN: AtomicBool = AtomicBool::new(false);

/// Progress: a bar on a terminal, otherwise one line per epoch.
pub(super) struct TrainingProgress {
    tell: Tell,
    pub(super) bar: ProgressBar,
    epochs: usize,
    /// Zero for no limit.
    seconds: f64,
    start: Instant,
    /// Steps since the start, to estimate the time left, including validation and writing.
    steps: AtomicUsize,
}

impl TrainingProgress {
    pub(super) fn new(config: &Config, done: &[Epoch], tell: Tell) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        let style = "epoch {prefix} [{bar:30}] {pos}/{len} {msg}";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let seconds =
            if config.seconds > 0. { (config.seconds - done.last().map_or(0., |e| e.seconds)).max(1.) } else { 0. };
        Self { tell, bar, epochs: config.epochs, seconds, start: Instant::now(), steps: AtomicUsize::new(0) }
    }
}

impl Progress for TrainingProgress {
    fn step(&self, epoch: usize, done: usize, of: usize, loss: f64, rate: f64, waiting: f64) {
        let steps = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        if self.bar.is_hidden() {
            return;
        }
        if done == 1 {
            self.bar.set_length(of as u64);
            self.bar.set_prefix(format!("{}/{}", epoch + 1, self.epochs));
            self.bar.reset();
        }
        self.bar.set_position(done as u64);
        let spent = self.start.elapsed().as_secs_f64();
        let left = ((self.epochs - epoch) * of - done) as f64 * spent / steps as f64;
        let left = if self.seconds > 0. { left.min((self.seconds - spent).max(0.)) } else { left };
        let left = HumanDuration(Duration::from_secs_f64(left));
        let bound = train::bound(waiting);
        self.bar.set_message(format!("loss {loss:.5}, {rate:.0} samples/s, bound by {bound}, at most {left} left"));
    }

    fn epoch(&self, e: &Epoch, best: bool) {
        let line = format!(
            "epoch {:4}  train {:.6}  valid RMSE {:.3} px  NME {:.2} %  {:.0} samples/s, bound by {}{}",
            e.epoch,
            e.train_loss,
            e.valid_rmse_px,
            e.valid_nme_pct,
            e.samples_per_second,
            train::bound(e.waiting),
            if best { "  best" } else { "" }
        );
        match (self.tell, self.bar.is_hidden()) {
            (Tell::Json, _) => drop(say(serde_json::json!({ "epoch": e, "best": best }))),
            (Tell::Sentences, true) => drop(say(line)),
            (Tell::Sentences, false) => self.bar.println(line),
        }
    }

    fn stopped(&self) -> bool {
        STOPPED.load(Ordering::Relaxed) != 0
    }
}

/// SIGINT (Ctrl-C) and SIGTERM (docker, systemd, Slurm, kill) end the run after its current step, so that its files are
/// complete; a second signal ends it at once.
pub(super) fn catch_interrupt() -> Result<()> {
    use signal_hook::{consts, flag};
    for signal in [consts::SIGINT, consts::SIGTERM] {
        flag::register_conditional_default(signal, &AGAIN)?;
        flag::register(signal, &AGAIN)?;
        flag::register_usize(signal, &STOPPED, signal as usize)?;
    }
    Ok(())
}

/// The exit status of a run that a signal stopped before its end, following the shells: 130 after SIGINT, 143 after SIGTERM.
pub(super) fn interrupted() -> ExitCode {
    ExitCode::from(128 + STOPPED.load(Ordering::Relaxed) as u8)
}

/// Largest share of a run's time for writing its files. Small nets have epochs of a tenth of a second, and files that take
/// longer.
const WRITING_SHARE: f64 = 0.1;

/// The files of a run. Those of the first and of the last epoch are always written, those between as often as
/// [`WRITING_SHARE`] allows: a kill loses the epochs since then, and a resumed run repeats them.
pub(super) struct Keeper<'a> {
    pub(super) run: &'a Path,
    pub(super) config: &'a Config,
    pub(super) schema: &'a Schema,
    pub(super) mean_shape: Option<Vec<[f32; 2]>>,
    /// Validation faces for the sheet of predictions.
    pub(super) sample: Vec<&'a Face>,
    pub(super) events: Option<Events>,
    /// Number of epochs in the event file.
    pub(super) told: usize,
    /// The previous epoch, and the best one, while no file has them.
    pub(super) last: Option<(Rc<State>, Score)>,
    pub(super) best: Option<Rc<State>>,
    pub(super) written: Option<Instant>,
    pub(super) took: Duration,
}

impl Keeper<'_> {
    pub(super) fn epoch(&mut self, state: &State, score: &Score, best: bool) -> Result<(), Error> {
        let due = self.written.is_none_or(|at| at.elapsed().as_secs_f64() * WRITING_SHARE >= self.took.as_secs_f64());
        let due = due || self.config.end(&state.history).is_some();
        // One copy may serve as both; a net's weights with their moments can be 100 MB.
        if best || !due {
            let copy = Rc::new(state.copy()?);
            self.best = if best { Some(copy.clone()) } else { self.best.take() };
            self.last = Some((copy, score.clone()));
        }
        if due {
            return self.write(state, score);
        }
        Ok(())
    }

    /// Writes everything that is not in a file yet.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        match self.last.take() {
            Some((state, score)) => self.write(&state, &score),
            None => Ok(()),
        }
    }

    fn write(&mut self, state: &State, score: &Score) -> Result<(), Error> {
        let start = Instant::now();
        let path = |name: &str| self.run.join(name);
        if let Some(best) = &self.best {
            best.save(&path("best.ckpt"), self.config)?;
            let source = source_name(&self.config.data);
            let weights = train::export(self.config, &source, self.schema, self.mean_shape.clone(), best)?;
            write_atomically(&path("best.safetensors"), &weights.to_bytes(Precision::F16)?)?;
            // Only now, because after a full disk a later attempt must still have it.
            self.best = None;
        }
        write_atomically(&path("metrics.csv"), report::metrics_csv(&state.history).as_bytes())?;
        write_atomically(&path("curves.svg"), report::curves(&state.history, self.config.loss)?.as_bytes())?;
        write_atomically(&path("errors.svg"), report::cumulative_error(&score.each)?.as_bytes())?;
        let net = state.averaged(self.config.average)?.inference()?;
        let found = train::predict(&net, self.config, &self.sample)?;
        let cells = self.sample.iter().zip(found).map(|(f, p)| (grey(&f.crop()), f.points.clone(), p));
        report::write_picture(&path("samples.png"), &report::sheet(&cells.collect::<Vec<_>>(), 8, 2))?;
        if self.events.is_none() {
            self.events = Some(Events::start(self.run)?);
        }
        for e in &state.history[self.told..] {
            let figures = [
                ("train/loss", e.train_loss),
                ("train/learning_rate", f64::from(e.learning_rate)),
                ("train/samples_per_second", e.samples_per_second),
                ("valid/rmse_px", e.valid_rmse_px),
                ("valid/nme_pct", e.valid_nme_pct),
            ];
            self.events.iter_mut().try_for_each(|events| events.scalars(e.epoch, &figures))?;
        }
        self.told = state.history.len();
        // Written last: a run that is killed before this repeats the epochs, and then lacks none of the files above.
        state.save(&path("last.ckpt"), self.config)?;
        self.last = None;
        (self.written, self.took) = (Some(Instant::now()), start.elapsed());
        Ok(())
    }
}
