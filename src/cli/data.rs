//! `data`: reports what labelled data contains and which rows look wrong, draws a sheet of it, and writes it in another format.

use super::files::{print, say};
use super::{count, grey, guard, write_output};
use anyhow::{bail, Context, Result};
use clap::Args;
use face96::data::formats::{self, Format};
use face96::data::{self, Dataset, Face, Split};
use face96::nets::SIDE;
use face96::schema::usual_place;
use face96::train::{report, Config};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

#[derive(Args)]
pub(super) struct DataCommand {
    /// Labelled data, as for train --data
    path: String,
    /// Draw a sheet of the crops and their labels to this PNG or JPEG
    #[arg(long, value_name = "SHEET")]
    draw: Option<PathBuf>,
    /// Number of crops on the sheet
    #[arg(long, default_value_t = 48)]
    count: usize,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Write the labels as coco, cvat, labelme, label-studio, wflw, ultralytics or dlib
    #[arg(long, value_name = "FORMAT")]
    to: Option<Format>,
    /// Folder for the files of --to, best that of the pictures; no existing file is replaced
    #[arg(long, requires = "to", default_value = ".")]
    out: PathBuf,
    /// Leave out bad rows and report how many, instead of stopping at the first
    #[arg(long)]
    skip_bad_rows: bool,
    /// Keep the 68 points of .pts files instead of Kaggle's 15
    #[arg(long)]
    all_68: bool,
    /// Keypoints that trade places in a mirror image, if their names do not show it
    #[arg(long, value_name = "LEFT=RIGHT", value_delimiter = ',')]
    pairs: Vec<String>,
}

/// The contents of the data.
#[derive(Serialize)]
struct Summary {
    format: &'static str,
    pictures: usize,
    faces: usize,
    without_face: usize,
    keypoints: Vec<String>,
    mirror_pairs: Vec<(String, String)>,
    train: usize,
    validate: usize,
    test: usize,
    /// Number of faces without a label for a keypoint, by its name.
    missing: BTreeMap<String, usize>,
    skipped: Vec<String>,
    warnings: Vec<String>,
    suspicious: Vec<String>,
}

pub(super) fn data(args: DataCommand) -> Result<()> {
    let mut config = Config::preset("compact")?;
    (config.data, config.pairs) = (args.path.clone(), args.pairs);
    (config.skip_bad_rows, config.all_68) = (args.skip_bad_rows, args.all_68);
    let options = config.options()?;
    if let Some(format) = args.to {
        return convert(&data::labels(&args.path, &options)?, format, &args.out);
    }
    let data = data::load(&args.path, options)?;
    guard(&args.draw, &data.files)?;
    let summary = Summary::new(&data, config.seed);
    if args.json {
        say(serde_json::to_string(&summary)?)?;
    } else {
        print(summary.text())?;
    }
    if let Some(path) = &args.draw {
        let faces: Vec<&Face> = data.faces.iter().filter(|f| f.is_face()).collect();
        let step = faces.len().div_ceil(args.count.max(1)).max(1);
        let cells: Vec<_> = faces.iter().step_by(step).map(|f| (grey(&f.crop()), f.points.clone(), vec![])).collect();
        report::write_picture(path, &report::sheet(&cells, 8, 2))?;
        if !args.json {
            say(format!("{}: {} of {}", path.display(), count(cells.len(), "crop"), count(faces.len(), "face")))?;
        }
    }
    Ok(())
}

fn convert(labels: &data::labels::Labels, format: Format, out: &Path) -> Result<()> {
    let files = formats::write(labels, format)?;
    // Files beside pictures outside of the folder would not be found there again, and not be expected elsewhere.
    let inside = |name: &Path| name.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if let Some((name, _)) = files.iter().find(|(name, _)| !inside(name)) {
        bail!(
            "expected pictures below the folder of the labels, found one whose labels would go to {}, outside of --out; write one of \
             the formats of one file, such as coco",
            name.display()
        );
    }
    if let Some((name, _)) = files.iter().find(|(name, _)| out.join(name).exists()) {
        bail!("{} is there already: choose another folder for --out", out.join(name).display());
    }
    for (name, text) in &files {
        let path = out.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        write_output(&path, text.as_bytes())?;
    }
    labels.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if let Some(first) = labels.skipped.first() {
        eprintln!("left out {}; the first: {first}", count(labels.skipped.len(), "bad row"));
    }
    say(format!("{}: {} of {}", out.display(), count(files.len(), "file"), count(labels.pictures.len(), "picture")))?;
    Ok(())
}

impl Summary {
    fn new(data: &Dataset, seed: u64) -> Self {
        let faces: Vec<&Face> = data.faces.iter().filter(|f| f.is_face()).collect();
        let absent = |k: usize| faces.iter().filter(|f| !f.points[k][0].is_finite()).count();
        let missing = data.schema.keypoints.iter().enumerate().map(|(k, name)| (name.clone(), absent(k)));
        let split = |split| data.split(split, seed).len();
        let has_test = data.faces.iter().any(|f| f.split == Some(Split::Test));
        let pairs = data.schema.pairs().into_iter().map(|(a, b)| (a.to_string(), b.to_string()));
        Self {
            format: data.format,
            pictures: data.faces.iter().map(|f| &f.name).collect::<BTreeSet<_>>().len(),
            faces: faces.len(),
            without_face: data.faces.len() - faces.len(),
            keypoints: data.schema.keypoints.clone(),
            mirror_pairs: pairs.collect(),
            train: split(Split::Train),
            validate: split(Split::Val),
            test: if has_test { split(Split::Test) } else { 0 },
            missing: missing.filter(|(_, n)| *n > 0).collect(),
            skipped: data.skipped.clone(),
            warnings: data.warnings.clone(),
            suspicious: suspicious(data, &faces),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("format: {}\n", self.format);
        let mut line = |name: &str, value: String| text += &format!("{name}: {value}\n");
        let without =
            if self.without_face > 0 { format!(", and {} without one", self.without_face) } else { String::new() };
        line("pictures", format!("{} with {}{without}", self.pictures, count(self.faces, "face")));
        line("keypoints", format!("{}: {}", self.keypoints.len(), self.keypoints.join(", ")));
        let pairs: Vec<String> = self.mirror_pairs.iter().map(|(a, b)| format!("{a}/{b}")).collect();
        line(
            "mirror pairs",
            if pairs.is_empty() { "none".into() } else { format!("{}: {}", pairs.len(), pairs.join(", ")) },
        );
        let test = if self.test > 0 { format!(", {} to test", self.test) } else { String::new() };
        line("splits", format!("{} to train on, {} to validate{test}", self.train, self.validate));
        let missing: Vec<String> = self.missing.iter().map(|(name, n)| format!("{name} in {n}")).collect();
        line("missing", if missing.is_empty() { "none".into() } else { missing.join(", ") });
        if let Some(first) = self.skipped.first() {
            line("left out", format!("{}, such as {first}", count(self.skipped.len(), "bad row")));
        }
        self.warnings.iter().for_each(|w| line("warning", w.clone()));
        self.suspicious.iter().for_each(|s| line("suspicious", s.clone()));
        text
    }
}

/// Largest mean deviation of a face's points from the usual shape, in pixels of the crop; a head in profile stays below it.
const FAR: f32 = 16.;

/// Number of suspicious rows that are listed, the worst first.
const MOST: usize = 20;

/// Faces whose points lie unlike those of the others: left and right exchanged, or far off. An error that most faces share is not
/// found, except that their left is the picture's left.
fn suspicious(data: &Dataset, faces: &[&Face]) -> Vec<String> {
    let k = data.schema.len();
    let usual: Vec<[f32; 2]> = (0..k)
        .map(|i| {
            [0, 1].map(|c| {
                let mut values: Vec<f32> = faces.iter().map(|f| f.points[i][c]).filter(|v| v.is_finite()).collect();
                values.sort_by(f32::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or(f32::NAN)
            })
        })
        .collect();
    let off = |face: &Face, of: &dyn Fn(usize) -> usize| {
        let far = (0..k).map(|i| (face.points[i][0] - usual[of(i)][0]).hypot(face.points[i][1] - usual[of(i)][1]));
        let far: Vec<f32> = far.filter(|d| d.is_finite()).collect();
        far.iter().sum::<f32>() / far.len().max(1) as f32
    };
    let mut found: Vec<(f32, String)> = Vec::new();
    for face in faces {
        let (here, exchanged) = (off(face, &|i| i), off(face, &|i| data.schema.swap[i]));
        if here > FAR / 2. && exchanged < here / 2. {
            found.push((here, format!("{}: left and right look exchanged", face.name)));
        } else if here > FAR {
            found.push((
                here,
                format!("{}: its points lie {:.0} % of a face off the others'", face.name, 100. * here / SIDE as f32),
            ));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut lines: Vec<String> = found.into_iter().take(MOST).map(|(_, line)| line).collect();
    let side = |(left, right): (&str, &str)| {
        let x = |name: &str| data.schema.find(&[name]).ok().map(|i| usual[i[0]][0]);
        let (known_left, known_right) = (usual_place(left)?[0], usual_place(right)?[0]);
        Some((x(left)? - x(right)?) * (known_left - known_right) < 0.)
    };
    let sides: Vec<bool> = data.schema.pairs().into_iter().filter_map(side).collect();
    if !sides.is_empty() && sides.iter().all(|wrong| *wrong) {
        lines.insert(
            0,
            "in most faces left is the picture's left; expected the subject's, which is on the right".into(),
        );
    }
    lines
}
