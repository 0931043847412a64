//! `submission`: from Kaggle's `test.csv` and `IdLookupTable.csv` to the competition's submission file.

use super::files::say;
use super::nets::Nets;
use super::{count, guard};
use anyhow::{bail, Context, Result};
use clap::Args;
use face96::data::kaggle;
use face96::nets::SIDE;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct SubmissionArgs {
    /// Weights files, or run folders; specialists share the keypoints among them
    #[arg(long, required = true, num_args = 1..)]
    weights: Vec<PathBuf>,
    /// Kaggle's test.csv: ImageId,Image
    #[arg(long)]
    test: PathBuf,
    /// Kaggle's IdLookupTable.csv: RowId,ImageId,FeatureName,Location
    #[arg(long)]
    lookup: PathBuf,
    /// The file to write: RowId,Location
    #[arg(long, default_value = "submission.csv")]
    out: PathBuf,
    /// Print JSON only
    #[arg(long)]
    json: bool,
}

pub(super) fn submission(args: SubmissionArgs) -> Result<()> {
    let nets = Nets::load(&args.weights)?;
    guard([&args.out], nets.files.iter().chain([&args.test, &args.lookup]))?;
    let (ids, crops): (Vec<String>, Vec<Vec<f32>>) = kaggle::load_test(&args.test)?.into_iter().unzip();
    let images: HashMap<&str, usize> = ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let names = nets.schema.keypoints.iter().enumerate();
    let features: HashMap<String, (usize, usize)> =
        names.flat_map(|(k, name)| [(format!("{name}_x"), (k, 0)), (format!("{name}_y"), (k, 1))]).collect();
    let lookup = kaggle::load_lookup(&args.lookup)?;
    if lookup.is_empty() {
        bail!("{}: no row", args.lookup.display());
    }
    let mut asked = Vec::new();
    for line in &lookup {
        let at = || format!("{}: line {}", args.lookup.display(), line.line);
        let image = images.get(line.image.as_str());
        let image =
            image.with_context(|| format!("{}: {} has no ImageId '{}'", at(), args.test.display(), line.image))?;
        let feature = features.get(&line.feature);
        let feature = feature.with_context(|| format!("{}: no net predicts '{}'", at(), line.feature))?;
        asked.push((*image, *feature));
    }
    let found = nets.detect(&crops)?;
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["RowId", "Location"])?;
    for (line, (image, (keypoint, axis))) in lookup.iter().zip(asked) {
        // No label lies outside of the picture.
        let place = found[image].points[keypoint][axis].clamp(0., SIDE as f32);
        writer.write_record([&line.row, &format!("{place:.4}")])?;
    }
    super::write_output(&args.out, &writer.into_inner()?)?;
    let (rows, pictures) = (lookup.len(), crops.len());
    // Standard output may be the submission itself.
    let to_stdout = args.out == Path::new("-");
    match (args.json, to_stdout) {
        (_, true) => {}
        (true, false) => {
            say(serde_json::json!({ "path": args.out, "rows": rows, "pictures": pictures }))?;
        }
        (false, false) => {
            say(format!("{}: {} for {}", args.out.display(), count(rows, "row"), count(pictures, "picture")))?;
        }
    }
    Ok(())
}
