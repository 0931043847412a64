//! Pictures of a run: learning curves and the cumulative error curve as SVG, predictions on faces as PNG.

use super::Epoch;
use crate::error::{Error, Result};
use crate::geometry::Affine;
use crate::picture::Gray;
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
        let labels = chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw();
        labels.map_err(plot_error)?;
        area.present().map_err(plot_error)?;
    }
    Ok(svg)
}

/// Validation RMSE and NME by epoch.
///
/// # Errors
/// Only from the plotting library.
pub fn curves(history: &[Epoch]) -> Result<String> {
    let line = |f: fn(&Epoch) -> f64| history.iter().map(|e| (e.epoch as f64, f(e))).collect::<Vec<_>>();
    let lines = [
        ("validation RMSE, px", RED, line(|e| e.valid_rmse_px)),
        ("validation NME, %", BLUE, line(|e| e.valid_nme_pct)),
    ];
    // The first epochs of a long run are far off: scaled to what most of the run shows.
    let mut heights: Vec<f64> = lines.iter().flat_map(|(_, _, l)| l.iter().map(|p| p.1)).collect();
    heights.sort_by(f64::total_cmp);
    let top = heights.get(heights.len() * 9 / 10).copied().unwrap_or(1.).max(0.1) * 1.5;
    chart("Learning curves", "epoch", "error", (1., history.len().max(2) as f64), top, &lines)
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

/// A sheet of faces at `zoom` times their size with labels (green, where there are any) and predictions (red).
pub fn sheet(faces: &[(Gray, Vec<[f32; 2]>, Vec<[f32; 2]>)], columns: usize, zoom: usize) -> RgbImage {
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

/// Writes a picture as PNG, whole or not at all.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
    super::checkpoint::write_atomically(path, bytes.get_ref())
}
