//! Grey pictures, and the one place where pixels become the input of a net, shared by training and the browser.

use crate::error::{Error, Result};
use crate::geometry::Affine;

/// Side of the square grey input of every net, in pixels.
pub const SIDE: usize = 96;

/// A grey picture, one byte per pixel, rows from top to bottom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gray {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` bytes.
    pub pixels: Vec<u8>,
}

impl Gray {
    /// Wraps the bytes of a picture.
    ///
    /// # Errors
    /// An empty picture, or a buffer whose length is not `width * height`.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 || pixels.len() != width * height {
            return Err(Error::Input(format!(
                "expected {width} x {height} = {} grey pixels, found {}",
                width * height,
                pixels.len()
            )));
        }
        Ok(Self { width, height, pixels })
    }

    /// Converts colours to grey as in the browser.
    #[cfg(feature = "native")]
    pub fn of_colours(picture: &image::DynamicImage) -> Self {
        use image::DynamicImage::{ImageLuma8, ImageRgb8};
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        match picture {
            ImageLuma8(grey) => Self { width, height, pixels: grey.as_raw().clone() },
            ImageRgb8(colours) => Self::of_rgb(width, height, colours.as_raw()),
            other => Self::of_rgb(width, height, &other.to_rgb8()),
        }
    }

    /// The same for bytes: red, green and blue of each pixel.
    #[cfg(feature = "native")]
    pub(crate) fn of_rgb(width: usize, height: usize, rgb: &[u8]) -> Self {
        Self { width, height, pixels: rgb.chunks_exact(3).map(|p| luma(p[0], p[1], p[2])).collect() }
    }

    /// The value between pixels by bilinear interpolation; outside, the border is repeated. 0 to 255.
    #[inline(always)]
    pub fn sample(&self, x: f32, y: f32) -> f32 {
        let x = x.clamp(0., self.width as f32 - 1.);
        let y = y.clamp(0., self.height as f32 - 1.);
        // Through i32, which is one instruction where usize takes six; no picture has 2^31 pixels in a row.
        let (x0, y0) = (x as i32 as usize, y as i32 as usize);
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let at = |x: usize, y: usize| f32::from(self.pixels[y * self.width + x]);
        let top = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * fx;
        let bottom = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * fx;
        top + (bottom - top) * fy
    }

    /// Whether a place lies on the picture.
    pub fn contains(&self, [x, y]: [f32; 2]) -> bool {
        x >= -0.5 && y >= -0.5 && x <= self.width as f32 - 0.5 && y <= self.height as f32 - 0.5
    }

    /// Resamples to `side` x `side` values in 0 to 255: the pixel at `p` of the result is this picture at
    /// `to_source.apply(p)`. If the map shrinks, several samples per pixel are averaged, which comes close to the mean
    /// over the area that the pixel covers.
    pub fn warp(&self, to_source: Affine, side: usize, out: &mut Vec<f32>) {
        let taps = Taps::new(to_source);
        out.clear();
        out.extend((0..side * side).map(|i| taps.of(self, to_source.apply([(i % side) as f32, (i / side) as f32]))));
    }

    /// The same, but black outside of the picture, like the browser's crop.
    pub fn crop(&self, to_source: Affine, side: usize) -> Vec<f32> {
        let mut out = Vec::new();
        self.warp(to_source, side, &mut out);
        for (i, p) in out.iter_mut().enumerate() {
            if !self.contains(to_source.apply([(i % side) as f32, (i / side) as f32])) {
                *p = 0.;
            }
        }
        out
    }
}

/// Where a pixel of the result is sampled, relative to the centre of the area that it covers in the source.
pub(crate) struct Taps {
    places: [[f32; 4]; 64],
    count: usize,
}

impl Taps {
    /// One sample for each source pixel that a target pixel covers in a direction, at most 8 x 8.
    pub(crate) fn new(to_source: Affine) -> Self {
        let n = (to_source.scale() - 0.05).ceil().clamp(1., 8.) as usize;
        let [a, b, _, d, e, _] = to_source.0;
        let mut places = [[0.; 4]; 64];
        for (i, place) in places.iter_mut().take(n * n).enumerate() {
            let at = |i: usize| (i as f32 + 0.5) / n as f32 - 0.5;
            let (u, v) = (at(i % n), at(i / n));
            *place = [a * u, b * v, d * u, e * v];
        }
        Self { places, count: n * n }
    }

    /// The mean of the samples around a place of the source.
    pub(crate) fn of(&self, picture: &Gray, [x, y]: [f32; 2]) -> f32 {
        let values = self.places[..self.count].iter().map(|[au, bv, du, ev]| picture.sample(x + au + bv, y + du + ev));
        values.sum::<f32>() / self.count as f32
    }
}

/// Luma by ITU-R BT.601, the weights of the JPEG files that the nets were trained on, and rounded to whole levels as in them, so
/// that a picture gives the same input natively and in the browser.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    (0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue) + 0.5) as u8
}

/// Luma (BT.601) of RGBA bytes; alpha is ignored.
///
/// # Errors
/// A buffer that is not `4 * grey.len()` bytes long.
pub fn grey_from_rgba(rgba: &[u8], grey: &mut [f32]) -> Result<()> {
    if grey.is_empty() || rgba.len() != 4 * grey.len() {
        return Err(Error::Input(format!("expected {} RGBA bytes, found {}", 4 * grey.len(), rgba.len())));
    }
    for (g, p) in grey.iter_mut().zip(rgba.chunks_exact(4)) {
        *g = f32::from(luma(p[0], p[1], p[2]));
    }
    Ok(())
}

/// How grey values in 0 to 255 become the input of a net.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Divided by 255, as in the tutorial.
    Unit,
    /// Minus its own mean, divided by its own standard deviation (at least 8 grey levels, so that an empty wall does not
    /// turn into amplified noise): removes brightness and contrast.
    Standard,
}

/// The smallest standard deviation by which [`Normalisation::Standard`] divides, in grey levels.
const MIN_DEVIATION: f32 = 8.;

impl Normalisation {
    /// Normalises one picture in place.
    pub fn apply(self, pixels: &mut [f32]) {
        match self {
            Self::Unit => pixels.iter_mut().for_each(|p| *p /= 255.),
            Self::Standard => {
                let n = pixels.len() as f32;
                let mean = pixels.iter().sum::<f32>() / n;
                let variance = pixels.iter().map(|p| (p - mean) * (p - mean)).sum::<f32>() / n;
                let scale = 1. / variance.sqrt().max(MIN_DEVIATION);
                pixels.iter_mut().for_each(|p| *p = (*p - mean) * scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::CropBox;

    fn ramp(width: usize, height: usize) -> Gray {
        let pixels = (0..width * height).map(|i| (2 * (i % width) + i / width) as u8).collect();
        Gray::new(width, height, pixels).unwrap()
    }

    #[test]
    fn identity_warp_keeps_the_pixels() {
        let picture = ramp(20, 20);
        let mut out = Vec::new();
        picture.warp(Affine::IDENTITY, 20, &mut out);
        assert_eq!(out, picture.pixels.iter().map(|p| f32::from(*p)).collect::<Vec<_>>());
    }

    #[test]
    fn halving_averages_the_four_pixels_under_each() {
        let picture = ramp(8, 8);
        let mut out = Vec::new();
        picture.warp(CropBox { x: 3.5, y: 3.5, size: 8., roll: 0. }.crop_to_frame(4), 4, &mut out);
        let first =
            (picture.pixels[0] as f32 + picture.pixels[1] as f32 + picture.pixels[8] as f32 + picture.pixels[9] as f32)
                / 4.;
        assert!((out[0] - first).abs() < 1e-4, "{} {first}", out[0]);
    }

    #[test]
    fn standard_input_has_no_mean_and_unit_deviation_but_a_wall_stays_quiet() {
        let mut pixels: Vec<f32> = (0..100).map(|i| i as f32).collect();
        Normalisation::Standard.apply(&mut pixels);
        assert!(pixels.iter().sum::<f32>().abs() < 1e-3);
        assert!((pixels.iter().map(|p| p * p).sum::<f32>() / 100. - 1.).abs() < 1e-4);
        let mut wall = vec![100., 101.];
        Normalisation::Standard.apply(&mut wall);
        assert!(wall.iter().all(|p| p.abs() < 0.1));
    }

    #[test]
    fn rejects_buffers_of_another_length() {
        assert!(grey_from_rgba(&[0; 7], &mut [0.; 2])
            .unwrap_err()
            .to_string()
            .contains("expected 8 RGBA bytes, found 7"));
        assert!(grey_from_rgba(&[], &mut []).is_err());
        assert!(Gray::new(0, 0, vec![]).is_err());
    }
}
