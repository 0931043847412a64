//! The head: its features before rotation, and their places after it.

use super::*;

/// The landmarks of half a face, x outwards, on the head and before the pose.
pub(super) struct FaceShape {
    pub(super) eye_in: Point,
    pub(super) eye_out: Point,
    pub(super) lid_up: f32,
    pub(super) lid_low: f32,
    pub(super) brow_in: Point,
    pub(super) brow_mid: Point,
    pub(super) brow_out: Point,
    pub(super) nose: f32,
    pub(super) mouth: Point,
    pub(super) lip_top: f32,
    pub(super) lip_bottom: f32,
    pub(super) inner_top: f32,
    pub(super) inner_bottom: f32,
}

/// Changes the mean landmarks according to looks and expression.
pub(super) fn shape(look: &Appearance, pose: &DrawnPose) -> FaceShape {
    let mean = |i: usize| [MEAN_SHAPE[i][0] - MIDDLE, MEAN_SHAPE[i][1] - MIDDLE];
    let (inner, outer) = (mean(2), mean(3));
    let middle = (inner[0] + outer[0]) / 2. + look.eye_spacing;
    let half = (outer[0] - inner[0]) / 2. * look.eye_width;
    // A smile lifts the lower lid; a closed eye's upper lid lies on the lower one.
    let low = (2.05 - 0.5 * pose.smile.max(0.) * pose.open.min(1.)) * look.eye_height;
    let lid_up = lerp(-low * 0.95, 3.5 * look.eye_height, pose.open);
    let brow = |i: usize, lift: f32| [mean(i)[0], mean(i)[1] - look.brow_lift - lift * pose.brows];
    let (brow_in, brow_out) = (brow(6, 2.), brow(7, 1.5));
    let brow_mid =
        [lerp(brow_in[0], brow_out[0], 0.6), lerp(brow_in[1], brow_out[1], 0.6) - look.brow_arch - 0.8 * pose.brows];
    // The mean mouth is a little open (1.5 units) and smiles a little (0.35): expression counts from there.
    let (smile, gap) = (pose.smile - 0.35, pose.gap - 1.5);
    let mouth = [
        mean(11)[0] * look.mouth_width + 2.4 * smile - 0.22 * gap,
        mean(11)[1] - look.mouth_lift - 2.3 * smile + 0.25 * gap,
    ];
    let fuller = look.lip_fullness - 1.;
    let lip_top = mean(13)[1] - look.mouth_lift - 2. * fuller - 0.1 * gap - 0.4 * smile;
    let lip_bottom = mean(14)[1] - look.mouth_lift + 3. * fuller + 0.88 * gap - 0.8 * smile;
    let thin = 1. - 0.12 * pose.smile;
    let inner_top = lip_top + 4.3 * look.lip_fullness * thin;
    FaceShape {
        eye_in: [middle - half, inner[1] + look.eye_slant * 0.4],
        eye_out: [middle + half, outer[1] - look.eye_slant],
        lid_up,
        lid_low: low,
        brow_in,
        brow_mid,
        brow_out,
        nose: mean(10)[1] + look.nose_length,
        mouth,
        lip_top,
        lip_bottom,
        inner_top,
        inner_bottom: inner_top + pose.gap,
    }
}

impl FaceShape {
    /// A point of a lid, `t` of the way from the inner to the outer corner; the lid's height is largest near the middle.
    pub(super) fn lid(&self, t: f32, height: f32) -> Point {
        let bump = (4. * t * (1. - t)).max(0.).powf(0.75);
        [lerp(self.eye_in[0], self.eye_out[0], t), lerp(self.eye_in[1], self.eye_out[1], t) - height * bump]
    }
}

/// A face turned and tilted, its points fitted to the mean shape: the step between the head and the pixels.
pub(super) struct Posed<'a> {
    pub(super) look: &'a Appearance,
    pub(super) pose: &'a DrawnPose,
    pub(super) shape: FaceShape,
    /// Points after yaw and pitch, before the fit, in units.
    pub(super) points: Vec<Point>,
    /// Maps rotated points to their places by the crop convention, in units from the middle of the crop.
    pub(super) fit: Affine,
    /// The same without the roll, for the body.
    pub(super) upright: Affine,
}

impl<'a> Posed<'a> {
    pub(super) fn new(look: &'a Appearance, pose: &'a DrawnPose) -> Self {
        let identity = Affine::IDENTITY;
        let mut posed =
            Self { look, pose, shape: shape(look, pose), points: Vec::new(), fit: identity, upright: identity };
        let s = &posed.shape;
        let nose = [0., s.nose];
        let mut points = vec![[0.; 2]; 15];
        for (side, at) in [(1., [0, 2, 3, 6, 7, 11]), (-1., [1, 4, 5, 8, 9, 12])] {
            let put = |p: Point| posed.turn(side * p[0], p[1], 0.);
            // iBUG's six points of an eye: the corners and two on each lid. Their mean is the centre.
            let eye = [(0., 0.), (1., 0.), (0.3, s.lid_up), (0.7, s.lid_up), (0.3, -s.lid_low), (0.7, -s.lid_low)];
            let eye = eye.map(|(t, height)| put(s.lid(t, height)));
            points[at[0]] = [0, 1].map(|c| eye.iter().map(|p| p[c]).sum::<f32>() / 6.);
            for (i, p) in [s.eye_in, s.eye_out, s.brow_in, s.brow_out, s.mouth].into_iter().enumerate() {
                points[at[i + 1]] = put(p);
            }
        }
        points[10] = posed.turn(nose[0], nose[1], 11.);
        points[13] = posed.turn(0., s.lip_top, 2.);
        points[14] = posed.turn(0., s.lip_bottom, 1.);
        // Least squares: the mean shape is scaled and shifted onto the points; the inverse of that map is the fit.
        let centre = |points: &[Point]| [0, 1].map(|c| points.iter().map(|p| p[c]).sum::<f32>() / 15.);
        let (from, to) = (centre(&points), centre(&MEAN_SHAPE));
        let (mut dot, mut square) = (0., 0.);
        for (p, m) in points.iter().zip(&MEAN_SHAPE) {
            for c in 0..2 {
                dot += (p[c] - from[c]) * (m[c] - to[c]);
                square += (m[c] - to[c]) * (m[c] - to[c]);
            }
        }
        let scale = pose.scale * square / dot;
        let place = |roll: f32| {
            Affine::translation(-from[0], -from[1])
                .then(Affine::similarity(scale, roll))
                .then(Affine::translation(to[0] - MIDDLE + pose.shift[0], to[1] - MIDDLE + pose.shift[1]))
        };
        (posed.fit, posed.upright, posed.points) = (place(pose.roll), place(0.), points);
        posed
    }

    /// iBUG's 68 points after yaw and pitch, before the fit. Jaw points lie on the silhouette, as annotators put them.
    pub(super) fn landmarks(&self) -> [Point; 68] {
        let (s, look) = (&self.shape, self.look);
        let mut points = [[0.; 2]; 68];
        let chin = self.chin();
        for (i, y) in [-9., 2., 13., 23., 32., 40., 46.5, 51.].into_iter().enumerate() {
            let y = if y > 20. { 20. + (y - 20.) * (chin - 20.) / 33.5 } else { y };
            let nod = -(self.slice(y)[1] - NOD_PIVOT) * self.pose.pitch.sin();
            let [right, left] = self.extent(y);
            (points[i], points[16 - i]) = ([right, y + nod], [left, y + nod]);
        }
        points[8] = self.turn(0., chin, 0.);
        for (i, (y, lift)) in [(-11., 3.5), (-4., 6.), (2.5, 8.5), (s.nose, 11.)].into_iter().enumerate() {
            points[27 + i] = self.turn(0., y, lift);
        }
        points[33] = self.turn(0., s.nose + 6., 5.);
        let between = [lerp(s.brow_in[0], s.brow_mid[0], 0.5), lerp(s.brow_in[1], s.brow_mid[1], 0.6)];
        let last = [0, 1].map(|c| lerp(s.brow_mid[c], s.brow_out[c], 0.5));
        let brow = [s.brow_in, between, s.brow_mid, last, s.brow_out];
        let (up, low) = (s.lid_up, -s.lid_low);
        let eye =
            [(0., 0.), (0.3, up), (0.7, up), (1., 0.), (0.7, low), (0.3, low)].map(|(t, height)| s.lid(t, height));
        let ([w, corner], under) = (s.mouth, |y: f32, t: f32| lerp(y, s.mouth[1], t));
        // Indices of a point on the subject's left and of its partner, and the half of the face that both come from.
        let mut both = |left: usize, right: usize, [x, y]: Point, lift: f32| {
            points[left] = self.turn(x, y, lift);
            points[right] = self.turn(-x, y, lift);
        };
        for (i, p) in brow.into_iter().enumerate() {
            both(22 + i, 21 - i, p, 0.);
        }
        for (p, (left, right)) in eye.into_iter().zip([(42, 39), (43, 38), (44, 37), (45, 36), (46, 41), (47, 40)]) {
            both(left, right, p, 0.);
        }
        both(34, 32, [3.5 * look.nose_width, s.nose + 5.4], 4.);
        both(35, 31, [7. * look.nose_width, s.nose + 4.6], 3.);
        both(54, 48, [w, corner], 0.);
        both(53, 49, [0.6 * w, under(s.lip_top, 0.36)], 1.);
        both(52, 50, [3., s.lip_top - 0.7], 2.);
        both(55, 59, [0.7 * w, under(s.lip_bottom, 0.42)], 0.5);
        both(56, 58, [0.35 * w, s.lip_bottom - 0.4], 1.);
        both(64, 60, [0.9 * w, corner], 0.);
        both(63, 61, [0.3 * w, s.inner_top], 2.);
        both(65, 67, [0.3 * w, s.inner_bottom], 2.);
        points[51] = self.turn(0., s.lip_top, 2.);
        points[57] = self.turn(0., s.lip_bottom, 1.);
        points[62] = self.turn(0., s.inner_top + 0.3, 2.);
        points[66] = self.turn(0., s.inner_bottom + 0.3, 2.);
        points
    }

    /// Maps rotated units to pixels of the picture.
    pub(super) fn map(&self, crop: &CropBox) -> Affine {
        self.fit.then(Affine::translation(MIDDLE, MIDDLE)).then(crop.crop_to_frame(96))
    }

    /// Half width, depth of the centre and reach to the front of the head, at a height.
    pub(super) fn slice(&self, y: f32) -> [f32; 3] {
        let look = self.look;
        // An open jaw and a long chin stretch the part below the mouth.
        let stretch = 1. + (look.chin + 0.75 * self.pose.gap) / 33.;
        let y = if y > 20. { 20. + (y - 20.) / stretch } else { y };
        let i = HEAD[1..HEAD.len() - 1].iter().take_while(|row| row[0] < y).count();
        let t = ((y - HEAD[i][0]) / (HEAD[i + 1][0] - HEAD[i][0])).clamp(0., 1.);
        let [w, c, f] = [1, 2, 3].map(|k| lerp(HEAD[i][k], HEAD[i + 1][k], t));
        let width = look.face_width * lerp(1., look.jaw_width, smoothstep(0., 25., y));
        [w * width, c, f]
    }

    /// The height of the chin.
    pub(super) fn chin(&self) -> f32 {
        53.5 + self.look.chin + 0.75 * self.pose.gap
    }

    /// The extent of the head's silhouette at a height, after the rotation: smallest and largest x.
    pub(super) fn extent(&self, y: f32) -> [f32; 2] {
        let [w, c, f] = self.slice(y);
        let (sin, cos) = self.pose.yaw.sin_cos();
        let near = ((w * cos).powi(2) + (f * sin).powi(2)).sqrt();
        let far = w;
        if sin > 0. {
            [c * sin - far, c * sin + near]
        } else {
            [c * sin - near, c * sin + far]
        }
    }

    /// A point on the head at (x, y), raised by `lift`, after yaw and pitch. Points behind the silhouette are
    /// moved onto it.
    pub(super) fn turn(&self, x: f32, y: f32, lift: f32) -> Point {
        let [w, c, f] = self.slice(y);
        let (sin, cos) = self.pose.yaw.sin_cos();
        let across = (x / w.max(1.)).clamp(-1., 1.);
        // On a circle the silhouette is at the angle of the yaw; the slice is a stretched circle.
        let edge = (w * cos).hypot(f * sin);
        let (limit, reach) = (w * cos / edge, f * sin / edge);
        let (on_x, on_z) = if (sin > 0. && across > limit) || (sin < 0. && across < -limit) {
            (limit * w * sin.signum(), f * reach.abs())
        } else {
            (x, f * (1. - across * across).sqrt())
        };
        let z = c + on_z + lift;
        let (nod, level) = self.pose.pitch.sin_cos();
        [on_x * cos + z * sin, y * level - (z - NOD_PIVOT) * nod]
    }
}
