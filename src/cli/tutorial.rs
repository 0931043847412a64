//! `tutorial`: trains the tutorial's nets one after the other, for the same time each, and writes the results beside the
//! tutorial's figures. If interrupted, the same command continues.

use super::files::say;
use super::run::{catch_interrupt, interrupted, Tell};
use super::{train, DataArgs};
use anyhow::{bail, Context, Result};
use clap::Args;
use face96::data::{Dataset, Face, Split};
use face96::nets::SIDE;
use face96::train::checkpoint::{write_atomically, State};
use face96::train::{self as training, report, Config, Epoch, Progress};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct TutorialArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Nets to train
    #[arg(long, value_delimiter = ',', default_value = "net1,net2,net3,net4,net5,net6")]
    nets: Vec<String>,
    /// Minutes of training per net
    #[arg(long, default_value_t = 20.)]
    minutes: f64,
    /// Seconds of training per net, instead of minutes
    #[arg(long)]
    seconds: Option<f64>,
    /// Folder for the runs
    #[arg(long, default_value = "runs/tutorial")]
    out: PathBuf,
    /// Page to write; its chart is written beside it
    #[arg(long, default_value = "docs/tutorial.md")]
    doc: PathBuf,
}

/// A row of the tutorial's table: net, what is new in it, epochs, loss on its training and validation rows (mean squared
/// error in units of 48 pixels).
type Published = (&'static str, &'static str, usize, f64, f64);

/// Nouri 2014, <https://danielnouri.org/notes/2014/12/17/using-convolutional-neural-nets-to-detect-facial-keypoints-tutorial/>.
const PUBLISHED: [Published; 7] = [
    ("net1", "one hidden layer", 400, 0.002244, 0.003255),
    ("net2", "convolutions", 1000, 0.001079, 0.001566),
    ("net3", "net2 and mirror images", 3000, 0.000678, 0.001288),
    ("net4", "net2 with falling rate and rising momentum", 1000, 0.000496, 0.001387),
    ("net5", "net4 and mirror images", 2000, 0.000373, 0.001184),
    ("net6", "net5 and dropout", 3000, 0.001306, 0.001121),
    ("net7", "net6, wider dense layers, longer", 10000, 0.000760, 0.000787),
];

/// Number of rows on which the tutorial's nets trained.
const TUTORIAL_FACES: f64 = 1712.;

/// Converts a loss to pixels of the 96-pixel crop.
fn pixels(loss: f64) -> f64 {
    loss.sqrt() * SIDE as f64 / 2.
}

/// Reports nothing, because one epoch is only timed.
struct Silent;

impl Progress for Silent {
    fn step(&self, _: usize, _: usize, _: usize, _: f64, _: f64, _: f64) {}
    fn epoch(&self, _: &Epoch, _: bool) {}
}

pub(super) fn tutorial(args: TutorialArgs) -> Result<ExitCode> {
    let seconds = args.seconds.unwrap_or(60. * args.minutes);
    if !seconds.is_finite() || seconds <= 0. {
        bail!("expected a time above 0, found {seconds} s");
    }
    let mut configs = Vec::new();
    for net in &args.nets {
        if PUBLISHED.iter().all(|p| p.0 != net) {
            bail!("no net '{net}' in the tutorial: expected net1 to net7");
        }
        let mut config = Config { seconds, ..Config::preset(net)? };
        args.data.apply_to(&mut config);
        // As in the tutorial: rows that lack a keypoint are left to the specialists.
        config.complete_rows = true;
        configs.push(config);
    }
    let Some(first) = configs.first() else { bail!("no net to train") };
    let data = train::load_data(first)?;
    let chart = args.doc.with_extension("svg");
    super::guard([&args.doc, &chart], &data.files)?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let _lock = train::lock(&args.out)?;
    catch_interrupt()?;
    let mut runs = Vec::new();
    for config in &configs {
        let run = args.out.join(&config.preset);
        let epochs = epochs(&run, config, &data)?;
        let mut config = Config { epochs, ..config.clone() };
        train::mirror(&mut config, &data);
        say(format!("{}: {epochs} epochs in {seconds:.0} s", config.preset))?;
        if !train::go_on(&run, &config, &data, Tell::Sentences)? {
            say("the same command goes on")?;
            return Ok(interrupted());
        }
        runs.push((config.preset.clone(), State::history(&run.join("last.ckpt"))?));
    }
    if let Some(folder) = args.doc.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    write_atomically(&chart, report::comparison(&runs)?.as_bytes())?;
    let page = page(&runs, first, &data, seconds, &chart);
    write_atomically(&args.doc, page.as_bytes())?;
    say(args.doc.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Number of epochs that fit into the time, so that the schedules end with it: that of the run if it was already begun,
/// otherwise computed from the time of two epochs after a first one.
fn epochs(run: &Path, config: &Config, data: &Dataset) -> Result<usize> {
    if run.join("config.toml").exists() {
        return Ok(train::load_config(run)?.epochs);
    }
    let some = Config { epochs: 3, seconds: 0., ..config.clone() };
    let mut state = State::new(&some, data.schema.len())?;
    training::run(&some, data, &mut state, &Silent, |_, _, _| Ok(()))?;
    let at: Vec<f64> = state.history.iter().map(|e| e.seconds).collect();
    Ok(((2. * config.seconds / (at[2] - at[0])) as usize).max(2))
}

/// The page: figures of all nets, and where their order differs from the tutorial's.
fn page(runs: &[(String, Vec<Epoch>)], config: &Config, data: &Dataset, seconds: f64, chart: &Path) -> String {
    let count = |split| {
        let faces = data.split(split, config.seed).into_iter().map(|i| &data.faces[i]);
        faces.filter(|f: &&Face| f.is_face()).count()
    };
    let threads = rayon::current_num_threads();
    let mut text = format!(
        "# The tutorial's nets, {} each\n\n\
         Written by `face96 tutorial`: every net trained for the same time on the same {} faces with all {} keypoints (`{}`) and\n\
         measured on {} others, on one machine ({threads} threads). Epochs are counted beforehand, by the pace of the first, so that a\n\
         schedule ends with the time. RMSE is in pixels of the 96x96 crop, of the best epoch. The tutorial had 1,712 of Kaggle's\n\
         faces to train on and 428 to validate, and as many epochs as its table says. Both columns come from different faces:\n\
         compare the order, not the figures.\n\n\
         | net | what it is | minutes | epochs, the tutorial's | training RMSE, the tutorial's | validation RMSE, the tutorial's |\n\
         |---|---|---|---|---|---|\n",
        if seconds < 120. { format!("{seconds:.0} seconds") } else { format!("{:.0} minutes", seconds / 60.) },
        count(Split::Train),
        data.schema.len(),
        train::source_name(&config.data),
        count(Split::Val),
    );
    let mut order = Vec::new();
    for (net, history) in runs {
        let published = PUBLISHED.iter().find(|p| p.0 == net);
        let (Some(best), Some((_, what, epochs, train_loss, valid_loss))) =
            (training::best_epoch(history, config.loss), published)
        else {
            continue;
        };
        text += &format!(
            "| {net} | {what} | {:.1} | {} of {}, {epochs} | {:.2}, {:.2} | {:.2}, {:.2} |\n",
            history.last().map_or(0., |e| e.seconds) / 60.,
            best.epoch,
            history.len(),
            pixels(best.train_loss),
            pixels(*train_loss),
            best.valid_rmse_px,
            pixels(*valid_loss),
        );
        order.push((net.as_str(), best.valid_rmse_px, pixels(*valid_loss), history.len(), *epochs));
    }
    text += &format!(
        "\n![Validation RMSE by minutes of training]({})\n",
        chart.file_name().unwrap_or_default().to_string_lossy()
    );
    let by = |figure: fn(&(&str, f64, f64, usize, usize)) -> f64| {
        let mut sorted = order.clone();
        sorted.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
        sorted.iter().map(|o| o.0).collect::<Vec<_>>().join(", ")
    };
    text += &format!("\nFrom the best to the worst, here: {}. In the tutorial: {}.\n", by(|o| o.1), by(|o| o.2));
    let faces = count(Split::Train) as f64;
    let shown = |o: &(&str, f64, f64, usize, usize)| 100. * faces * o.3 as f64 / (TUTORIAL_FACES * o.4 as f64);
    let mut swapped = String::new();
    for (i, a) in order.iter().enumerate() {
        for b in &order[i + 1..] {
            if (a.1 < b.1) != (a.2 < b.2) {
                let (better, worse) = if a.2 < b.2 { (a, b) } else { (b, a) };
                swapped += &format!(
                    "- {} is behind {} ({:.2} and {:.2} px): it was shown {:.1} % as many faces as by the tutorial, {} {:.1} %.\n",
                    better.0,
                    worse.0,
                    better.1,
                    worse.1,
                    shown(better),
                    worse.0,
                    shown(worse),
                );
            }
        }
    }
    if swapped.is_empty() {
        text + "The order is the tutorial's.\n"
    } else {
        text
            + "Where the order is another (what ends better learns slower, and has more to learn in the same time):\n\n"
            + &swapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_losses_are_the_tutorials_pixels() {
        // The tutorial: sqrt(0.003255) * 48 = 2.7385.
        assert!((pixels(PUBLISHED[0].4) - 2.7385).abs() < 1e-3);
    }

    #[test]
    fn the_page_names_pairs_out_of_order() {
        let data = face96::data::load("synthetic:10", Default::default()).unwrap();
        let config = Config::preset("net1").unwrap();
        let run = |net: &str, rmse: f64| {
            let epoch = Epoch {
                epoch: 1,
                train_loss: 0.0025,
                valid_rmse_px: rmse,
                valid_nme_pct: 1.,
                learning_rate: 0.1,
                samples_per_second: 1.,
                waiting: 0.,
                seconds: 1.,
            };
            (net.to_string(), vec![epoch])
        };
        let text = page(&[run("net1", 2.), run("net2", 3.)], &config, &data, 1200., Path::new("docs/tutorial.svg"));
        assert!(text.contains("20 minutes each") && text.contains("(tutorial.svg)"), "{text}");
        assert!(text.contains("| net1 | one hidden layer | 0.0 | 1 of 1, 400 | 2.40, 2.27 | 2.00, 2.74 |"), "{text}");
        assert!(text.contains("here: net1, net2. In the tutorial: net2, net1."), "{text}");
        // 8 faces once, not 1,712 a thousand times; and not 400 times.
        assert!(text.contains("- net2 is behind net1 (3.00 and 2.00 px): it was shown 0.0 % as many faces"), "{text}");
        let text = page(&[run("net1", 3.), run("net2", 2.)], &config, &data, 60., Path::new("t.svg"));
        assert!(text.contains("60 seconds each") && text.ends_with("The order is the tutorial's.\n"), "{text}");
    }
}
