//! Pictures of a run: learning curves and the cumulative error curve as SVG, predictions on faces as PNG.

use super::metrics::Score;
use super::{Epoch, Loss};
use crate::error::{Error, Result};
use crate::geometry::Affine;
use crate::nets::SIDE;
use crate::picture::Gray;
use crate::weights::Calibration;
use image::{Rgb, RgbImage};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (800, 480);

fn plot_error<E: std::fmt::Display>(e: E) -> Error {
    Error::Config(format!("plot: {e}"))
}

/// A line of a chart: its name, colour and points.
type Line<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

fn chart(title: &str, x: &str, y: &str, range: (f64, f64), top: f64, lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(plot_error)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(range.0..range.1, 0f64..top)
            .map_err(plot_error)?;
        chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw().map_err(plot_error)?;
        for (name, colour, points) in lines {
            let colour = *colour;
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(plot_error)?;
            drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        // Where the lines do not end.
        let high = lines.iter().filter_map(|l| l.2.last()).all(|(_, end)| *end > 0.4 * top);
        let corner = if high { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::UpperRight };
        let mut labels = chart.configure_series_labels();
        labels.position(corner).border_style(BLACK).background_style(WHITE).draw().map_err(plot_error)?;
        area.present().map_err(plot_error)?;
    }
    Ok(svg)
}

/// `metrics.csv`: a line an epoch. The last two columns are the machine's speed, the others are the same on every run.
pub fn metrics_csv(history: &[Epoch]) -> String {
    let mut csv =
        String::from("epoch,train_loss,valid_rmse_px,valid_nme_pct,learning_rate,samples_per_second,seconds\n");
    for e in history {
        let figures = format!("{},{},{},{}", e.train_loss, e.valid_rmse_px, e.valid_nme_pct, e.learning_rate);
        csv += &format!("{},{figures},{:.1},{:.1}\n", e.epoch, e.samples_per_second, e.seconds);
    }
    csv
}

/// The error of each keypoint and of all, as lines of text.
pub fn table(names: &[&String], score: &Score) -> String {
    let mut text = format!("{:28} {:>7}\n", "keypoint", "NME %");
    for name in names {
        text += &format!("{name:28} {:7.2}\n", score.per_keypoint[*name]);
    }
    text + &format!("{}\n", summary(score))
}

/// The error of all keypoints in a line.
pub fn summary(score: &Score) -> String {
    let Score { n, rmse_px, nme_pct, failure_pct, .. } = score;
    format!("{n} faces: RMSE {rmse_px:.3} px, NME {nme_pct:.2} %, failures {failure_pct:.2} %")
}

/// The highest value to show: the first epochs of a long run are far off, so it is scaled to what most of the run shows.
fn top(lines: &[Line]) -> f64 {
    let mut heights: Vec<f64> = lines.iter().flat_map(|(_, _, l)| l.iter().map(|p| p.1)).collect();
    heights.sort_by(f64::total_cmp);
    heights.get(heights.len() * 9 / 10).copied().unwrap_or(1.).max(0.1) * 1.5
}

/// Training error (where the loss is one in pixels) and validation RMSE and NME by epoch.
///
/// # Errors
/// Only from the plotting library.
pub fn curves(history: &[Epoch], loss: Loss) -> Result<String> {
    let line = |f: &dyn Fn(&Epoch) -> f64| history.iter().map(|e| (e.epoch as f64, f(e))).collect::<Vec<_>>();
    let mut lines = vec![
        ("validation RMSE, px", RED, line(&|e| e.valid_rmse_px)),
        ("validation NME, %", BLUE, line(&|e| e.valid_nme_pct)),
    ];
    if loss == Loss::Mse {
        lines.push(("training RMSE, px", BLACK, line(&|e| e.train_loss.sqrt() * SIDE as f64 / 2.)));
    }
    let top = top(&lines);
    chart("Learning curves", "epoch", "error", (1., history.len().max(2) as f64), top, &lines)
}

/// Validation RMSE of several runs by the minutes they trained.
///
/// # Errors
/// Only from the plotting library.
pub fn comparison(runs: &[(String, Vec<Epoch>)]) -> Result<String> {
    let colour = |i: usize| {
        let (r, g, b) = Palette99::pick(i).to_rgba().rgb();
        RGBColor(r, g, b)
    };
    let of = |history: &[Epoch]| history.iter().map(|e| (e.seconds / 60., e.valid_rmse_px)).collect::<Vec<_>>();
    let lines: Vec<Line> =
        runs.iter().enumerate().map(|(i, (name, history))| (name.as_str(), colour(i), of(history))).collect();
    let end = lines.iter().filter_map(|l| Some(l.2.last()?.0)).fold(1e-3, f64::max);
    chart("Learning curves", "minutes of training", "validation RMSE, px", (0., end), top(&lines), &lines)
}

/// The share of faces whose NME is below each value up to 15 %.
///
/// # Errors
/// Only from the plotting library.
pub fn cumulative_error(each: &[f64]) -> Result<String> {
    let share = |e: f64| 100. * each.iter().filter(|v| **v <= e).count() as f64 / each.len().max(1) as f64;
    let points = (0..=150).map(|i| (f64::from(i) / 10., share(f64::from(i) / 10.))).collect();
    chart("Cumulative error", "NME, %", "faces, %", (0., 15.), 100., &[("faces within", BLUE, points)])
}

/// A face of a sheet: picture, labels and predictions in its pixels.
pub type Cell = (Gray, Vec<[f32; 2]>, Vec<[f32; 2]>);

/// A sheet of faces at `zoom` times their size with labels (green, where there are any) and predictions (red).
pub fn sheet(faces: &[Cell], columns: usize, zoom: usize) -> RgbImage {
    let side = faces.first().map_or(1, |f| f.0.width.max(f.0.height)) * zoom;
    let rows = faces.len().div_ceil(columns);
    let mut out = RgbImage::new((columns * side) as u32, (rows * side) as u32);
    for (i, (picture, labels, found)) in faces.iter().enumerate() {
        let (x0, y0) = ((i % columns * side) as f32, (i / columns * side) as f32);
        let cell = annotate(picture, zoom, labels, found);
        image::imageops::overlay(&mut out, &cell, x0 as i64, y0 as i64);
    }
    out
}

/// A picture at `zoom` times its size with labels (green) and predictions (red).
pub fn annotate(picture: &Gray, zoom: usize, labels: &[[f32; 2]], found: &[[f32; 2]]) -> RgbImage {
    let z = zoom as f32;
    // Pixel centres: the middle of a zoomed pixel is at (zoom - 1) / 2.
    let to_zoomed = Affine::similarity(z, 0.).then(Affine::translation((z - 1.) / 2., (z - 1.) / 2.));
    let mut out = RgbImage::from_fn((picture.width * zoom) as u32, (picture.height * zoom) as u32, |x, y| {
        let v = picture.sample((x as f32 + 0.5) / z - 0.5, (y as f32 + 0.5) / z - 0.5) as u8;
        Rgb([v, v, v])
    });
    let radius = (1.1 * z).max(2.);
    for (points, colour) in [(labels, [60, 220, 90]), (found, [255, 60, 60])] {
        for p in points.iter().filter(|p| p[0].is_finite()) {
            dot(&mut out, to_zoomed.apply(*p), radius / if colour[0] == 60 { 1. } else { 1.5 }, colour);
        }
    }
    out
}

fn dot(picture: &mut RgbImage, [cx, cy]: [f32; 2], radius: f32, colour: [u8; 3]) {
    let reach = radius.ceil() as i64;
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let (x, y) = (cx.round() as i64 + dx, cy.round() as i64 + dy);
            let cover = (radius + 0.5 - (x as f32 - cx).hypot(y as f32 - cy)).clamp(0., 1.);
            if cover > 0. && x >= 0 && y >= 0 && x < i64::from(picture.width()) && y < i64::from(picture.height()) {
                let pixel = picture.get_pixel_mut(x as u32, y as u32);
                for (p, c) in pixel.0.iter_mut().zip(colour) {
                    *p = (f32::from(*p) + (f32::from(c) - f32::from(*p)) * cover) as u8;
                }
            }
        }
    }
}

/// Writes a picture in the format that the file's name says (PNG unless it ends in .jpg or .jpeg), whole or not at all.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_picture(path: &Path, picture: &RgbImage) -> Result<()> {
    let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let format =
        if matches!(kind.as_str(), "jpg" | "jpeg") { image::ImageFormat::Jpeg } else { image::ImageFormat::Png };
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
    super::checkpoint::write_atomically(path, bytes.get_ref())
}

/// The scale and shift of the logits that make confidences probabilities (Platt 1999), from what a net said before calibration
/// and whether it was right; by Newton's method. Nothing where there is nothing to fit.
pub fn calibrate(said: &[(f32, bool)]) -> Option<Calibration> {
    if said.iter().all(|(_, right)| *right) || said.iter().all(|(_, right)| !*right) {
        return None;
    }
    let (mut scale, mut shift) = (1f64, 0f64);
    for _ in 0..50 {
        let (mut g, mut h) = ([0f64; 2], [1e-6, 0., 1e-6]);
        for (confidence, right) in said {
            let p = f64::from(confidence.clamp(1e-6, 1. - 1e-6));
            let logit = (p / (1. - p)).ln();
            let q = 1. / (1. + (-(scale * logit + shift)).exp());
            let (d, w) = (q - f64::from(u8::from(*right)), q * (1. - q));
            g = [g[0] + d * logit, g[1] + d];
            h = [h[0] + w * logit * logit, h[1] + w * logit, h[2] + w];
        }
        let det = h[0] * h[2] - h[1] * h[1];
        scale -= (h[2] * g[0] - h[1] * g[1]) / det;
        shift -= (h[0] * g[1] - h[1] * g[0]) / det;
    }
    (scale.is_finite() && shift.is_finite()).then_some(Calibration { scale: scale as f32, shift: shift as f32 })
}

/// Mean confidence, keypoints and how many of them are right, in each tenth of the confidence that has any.
fn by_confidence(said: &[(f32, bool)]) -> Vec<(f32, usize, usize)> {
    let of = |step: usize| {
        let inside = said.iter().filter(|(c, _)| ((c * 10.) as usize).min(9) == step);
        let (sum, n, right) =
            inside.fold((0., 0, 0), |(sum, n, right), (c, r)| (sum + c, n + 1, right + usize::from(*r)));
        (n > 0).then(|| (sum / n as f32, n, right))
    };
    (0..10).filter_map(of).collect()
}

/// How often keypoints are right at the confidence they are given with, in ten steps; empty where none is given.
pub fn reliability(said: &[(f32, bool)]) -> String {
    let line = |(mean, n, right)| {
        let share = 100. * right as f64 / n as f64;
        format!("confidence {mean:.2}: {share:5.1} % of {n} keypoints within 5 %\n")
    };
    by_confidence(said).into_iter().map(line).collect()
}

/// The same as a chart, with the line on which confidences are what they say.
///
/// # Errors
/// Only from the plotting library.
pub fn reliability_curve(said: &[(f32, bool)]) -> Result<String> {
    let share = |(mean, n, right)| (f64::from(mean), 100. * right as f64 / n as f64);
    let measured = by_confidence(said).into_iter().map(share).collect();
    let lines = [("as said", RGBColor(160, 160, 160), vec![(0., 0.), (1., 100.)]), ("measured", BLUE, measured)];
    chart("Reliability", "confidence", "keypoints within 5 % of the eye distance, %", (0., 1.), 100., &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibrated_confidences_are_shares_of_right_keypoints() {
        // Said 0.9, right 7 times in 10; said 0.5, right 3 times in 10.
        let said: Vec<_> = (0..1000).flat_map(|i| [(0.9f32, i % 10 < 7), (0.5, i % 10 < 3)]).collect();
        let c = calibrate(&said).unwrap();
        assert!((c.confidence((0.9f32 / 0.1).ln()) - 0.7).abs() < 1e-3 && (c.confidence(0.) - 0.3).abs() < 1e-3);
        assert!(calibrate(&[(0.5, true)]).is_none());
        assert!(reliability(&said).contains("confidence 0.90:  70.0 % of 1000"));
    }
}
