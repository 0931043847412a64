//! `plot`: the learning curves of runs, and a sheet of augmented samples with the predictions of nets.

use super::files::{guard, of_run, say};
use super::nets::Nets;
use super::{grey, train, DataArgs};
use anyhow::{bail, Result};
use clap::Args;
use face96::data::augment::Batch;
use face96::data::Split;
use face96::nets::SIDE;
use face96::train::checkpoint::State;
use face96::train::{metrics::Score, report, Epoch};
use rand::SeedableRng;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct PlotArgs {
    /// Run folder whose learning curves to draw; several runs share one chart
    #[arg(long, num_args = 1..)]
    run: Vec<PathBuf>,
    /// Draw a sheet of augmented samples
    #[arg(long, conflicts_with = "run")]
    augmented: bool,
    /// Number of samples on the sheet
    #[arg(long, default_value_t = 48)]
    count: usize,
    /// Weights files or run folders whose predictions (red) to draw on the sheet, the worst first
    #[arg(long, requires = "augmented", num_args = 1..)]
    weights: Vec<PathBuf>,
    /// The file to write [default: curves.svg, or augmented.png]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    settings: train::SettingArgs,
}

pub(super) fn plot(args: PlotArgs) -> Result<()> {
    let out = args.out.clone().unwrap_or(if args.augmented { "augmented.png" } else { "curves.svg" }.into());
    guard([&out], args.run.iter().flat_map(|run| of_run(run)).chain(args.settings.config.clone()))?;
    match (args.augmented, &args.run[..]) {
        (true, _) => augmented(&args, &out)?,
        (false, []) => bail!("nothing to draw: give --run FOLDER or --augmented"),
        (false, [run]) => {
            let config = train::load_config(run)?;
            super::write_output(&out, report::curves(&history(run)?, config.loss)?.as_bytes())?;
        }
        (false, runs) => {
            let named = |run: &PathBuf| {
                let name = run.file_name().map_or(run.display().to_string(), |n| n.to_string_lossy().into_owned());
                Ok((name, history(run)?))
            };
            let runs = runs.iter().map(named).collect::<Result<Vec<_>>>()?;
            super::write_output(&out, report::comparison(&runs)?.as_bytes())?;
        }
    }
    say(out.display())?;
    Ok(())
}

/// The epochs in a run folder's last checkpoint.
pub(super) fn history(run: &Path) -> Result<Vec<Epoch>> {
    Ok(State::history(&run.join("last.ckpt"))?)
}

fn augmented(args: &PlotArgs, out: &Path) -> Result<()> {
    let mut config = args.settings.resolve()?;
    args.data.apply_to(&mut config);
    let data = train::load_data(&config)?;
    guard([out], &data.files)?;
    train::mirror(&mut config, &data);
    let faces = data.split(Split::Train, config.seed);
    if faces.is_empty() || args.count == 0 {
        bail!("{}: {} faces to train on, {} samples asked for", config.data, faces.len(), args.count);
    }
    // Faces spread over the data, repeated if needed.
    let indices: Vec<usize> = (0..args.count).map(|i| faces[i * faces.len() / args.count]).collect();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(config.seed);
    let batch = Batch::make(&data, &indices, &config.augment, &mut rng);
    let pixels: Vec<Vec<f32>> = batch.pixels.chunks_exact(SIDE * SIDE).map(<[f32]>::to_vec).collect();
    let points = batch.points.chunks_exact(2 * data.schema.len());
    let mut cells: Vec<report::Cell> = pixels
        .iter()
        .zip(points)
        .map(|(pixels, points)| (grey(pixels), points.chunks_exact(2).map(|p| [p[0], p[1]]).collect(), vec![]))
        .collect();
    if !args.weights.is_empty() {
        let nets = Nets::load(&args.weights)?;
        guard([out], &nets.files)?;
        let places = data.schema.find(&nets.schema.keypoints)?;
        for (cell, found) in cells.iter_mut().zip(nets.detect(&pixels)?) {
            cell.2 = found.points;
        }
        let error = |(_, labels, found): &report::Cell| {
            let score = Score::of(&data.schema, &places, std::iter::once((labels.as_slice(), found.as_slice())));
            score.each.first().copied().unwrap_or(0.)
        };
        cells.sort_by(|a, b| error(b).total_cmp(&error(a)));
    }
    Ok(report::write_picture(out, &report::sheet(&cells, 8, 2))?)
}
