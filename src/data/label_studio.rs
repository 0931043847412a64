//! Label Studio's JSON export (<https://labelstud.io/guide/export>): a list of tasks, each a picture with the results of its
//! annotation: `keypointlabels` and, for a face's box, `rectanglelabels`. If a picture has several faces, a point's `parentID`
//! is the box that it belongs to. JSON-MIN, the shorter export, has the same regions in lists under the names of the controls, but no
//! `parentID`; it is read if a picture has one face.
//!
//! Coordinates are percentages of the picture's sides, measured from the corner of the first pixel, half a pixel from its centre, where
//! ours begin.

use super::labels::{find_picture, named_points, source_of, Grouped, Labelled, Labels, Square};
use super::text::json_fault;
use super::{photo, Options};
use crate::error::{Error, Result};
use crate::geometry::CropBox;
use serde_json::{json, Value};
use std::path::Path;

/// Reads a file's text; pictures are looked up relative to its folder.
pub(super) fn read(path: &Path, text: &str, options: &Options) -> Result<Labels> {
    let shown = path.display();
    let bad = |what: String| Error::Data(format!("{shown}: {what}"));
    let tasks: Vec<Value> = serde_json::from_str(text).map_err(|e| bad(json_fault(&e)))?;
    let tasks: Vec<Value> = tasks.into_iter().map(whole).collect();
    let mut names: Vec<&str> = Vec::new();
    for result in tasks.iter().flat_map(results) {
        if let Some(label) = label(result, "keypointlabels").filter(|label| !names.contains(label)) {
            names.push(label);
        }
    }
    let schema = named_points(&names).map_err(|e| bad(e.to_string()))?;
    let mut labels = Labels::new("Label Studio JSON", schema);
    let folder = path.parent().unwrap_or(Path::new(""));
    for (i, task) in tasks.iter().enumerate() {
        let at = format!("{shown}: task {}", task["id"].as_u64().unwrap_or(i as u64 + 1));
        let picture = picture(task, &at, &names, folder).map_err(|why| format!("{at}: {why}"));
        labels.pictures.extend(options.keep(picture, &mut labels.skipped)?);
    }
    Ok(labels)
}

/// Whether a task is in JSON-MIN and has a labelled point.
pub(super) fn is_min(task: &Value) -> bool {
    !task["data"].is_object() && regions_of_min(task).any(|r| r["keypointlabels"].is_array())
}

fn regions_of_min(task: &Value) -> impl Iterator<Item = &Value> {
    task.as_object().into_iter().flat_map(|fields| fields.values()).filter_map(Value::as_array).flatten()
}

/// Converts a task in JSON-MIN to the form of the full export; leaves others unchanged.
fn whole(task: Value) -> Value {
    if task["data"].is_object() {
        return task;
    }
    let region = |r: &Value| {
        json!({ "value": r, "original_width": r["original_width"], "original_height": r["original_height"],
                "image_rotation": r["image_rotation"] })
    };
    let regions: Vec<Value> = regions_of_min(&task).map(region).collect();
    json!({ "id": task["id"], "data": task, "annotations": [{ "result": regions }] })
}

/// The regions of a task's first annotation that was not cancelled and has some.
fn results(task: &Value) -> impl Iterator<Item = &Value> {
    let annotations = task["annotations"].as_array().or(task["completions"].as_array());
    let kept = annotations.into_iter().flatten().filter(|a| a["was_cancelled"] != Value::Bool(true));
    kept.filter_map(|a| a["result"].as_array()).find(|regions| !regions.is_empty()).into_iter().flatten()
}

/// The first label of a region of a kind.
fn label<'a>(result: &'a Value, kind: &str) -> Option<&'a str> {
    Some(result["value"][kind].as_array()?.first()?.as_str()?.trim())
}

fn picture(task: &Value, at: &str, names: &[&str], folder: &Path) -> std::result::Result<Labelled, String> {
    // The user chooses the key.
    let url =
        task["data"].as_object().and_then(|data| data.values().find_map(|v| v.as_str().filter(|v| is_picture(v))));
    let url = url.ok_or("data: expected the path of a picture, found none")?;
    let name = name_of(url);
    let file = find_picture(folder, &name).or_else(|why| find_picture(folder, unprefixed(&name)).map_err(|_| why))?;
    // Old exports leave out the picture's size.
    let sized = |result: &Value| result["original_width"].is_number() && result["original_height"].is_number();
    let size = if results(task).all(sized) { [0; 2] } else { photo::size(&file).map_err(|e| e.to_string())? };
    let mut grouped = Grouped::default();
    for result in results(task) {
        let id = |key: &str| result[key].as_str().unwrap_or("");
        let number = |of: &Value, key: &str| {
            let found = of[key].as_f64().map(|v| v as f32).filter(|v| v.is_finite());
            found.ok_or_else(|| format!("region '{}': {key}: expected a number, found {}", id("id"), of[key]))
        };
        let value = &result["value"];
        let sides = if sized(result) {
            [number(result, "original_width")?, number(result, "original_height")?]
        } else {
            size.map(|s| s as f32)
        };
        if result["image_rotation"].as_f64().is_some_and(|degrees| degrees != 0.) {
            let turned = &result["image_rotation"];
            return Err(format!(
                "region '{}': image_rotation: expected 0, found {turned}; turn the picture itself",
                id("id")
            ));
        }
        let percent = |key: &str, side: usize| Ok::<_, String>(number(value, key)? * sides[side] / 100.);
        if let Some(name) = label(result, "keypointlabels") {
            let p = [percent("x", 0)? - 0.5, percent("y", 1)? - 0.5];
            let k = names.iter().position(|n| *n == name).expect("of all names");
            grouped.point(id("parentID"), k, p).map_err(|()| {
                format!(
                    "expected points in boxes ('parentID', which JSON-MIN leaves out) where a picture has several faces, found \
                     '{name}' twice"
                )
            })?;
        } else if label(result, "rectanglelabels").is_some() {
            let [w, h] = [percent("width", 0)?, percent("height", 1)?];
            let [x, y] = [percent("x", 0)?, percent("y", 1)?];
            let square = CropBox { x: x + w / 2. - 0.5, y: y + h / 2. - 0.5, size: w.max(h), roll: 0. };
            grouped.square(id("id"), square);
        }
    }
    Ok(Labelled {
        file,
        name,
        at: at.to_string(),
        source: source_of(folder),
        subject: None,
        split: None,
        by_model: false,
        faces: grouped.faces(names.len()),
    })
}

fn is_picture(url: &str) -> bool {
    let kinds = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "jfif"];
    let url = url.to_ascii_lowercase();
    kinds.iter().any(|kind| url.ends_with(&format!(".{kind}")) || url.contains(&format!(".{kind}?")))
}

/// The path in a task's address: `photos/a.jpg` of `/data/local-files/?d=photos/a.jpg`, with percent signs decoded.
fn name_of(url: &str) -> String {
    let path = url.split_once("?d=").map_or_else(|| url.split('?').next().unwrap_or(url), |(_, path)| path);
    let path = path.strip_prefix("file://").unwrap_or(path).trim_start_matches('/');
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|h| u8::from_str_radix(std::str::from_utf8(h).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The file's own name: uploads are stored with a prefix of eight hexadecimal digits and a hyphen.
fn unprefixed(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once('-') {
        Some((hex, rest)) if hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => rest,
        _ => last,
    }
}

/// The file of these labels.
///
/// # Errors
/// Only if it cannot be written as JSON.
pub(super) fn write(labels: &Labels, sizes: &[[usize; 2]]) -> Result<String> {
    let mut tasks = Vec::new();
    for (id, (picture, [width, height])) in labels.pictures.iter().zip(sizes).enumerate() {
        let mut results = Vec::new();
        let share = |v: f32, side: usize| 100. * (f64::from(v) + 0.5) / side as f64;
        for (i, face) in picture.faces.iter().enumerate() {
            let parent = format!("face{i}");
            let region = |id: String, kind: &str, value: Value| {
                json!({ "id": id, "type": kind, "from_name": kind, "to_name": "img", "original_width": width,
                        "original_height": height, "image_rotation": 0, "value": value })
            };
            let b = face.span();
            if face.square != Square::Around(None) {
                let value = json!({
                    "x": share(b.x - b.size / 2., *width), "y": share(b.y - b.size / 2., *height),
                    "width": 100. * f64::from(b.size) / *width as f64, "height": 100. * f64::from(b.size) / *height as f64,
                    "rotation": 0, "rectanglelabels": ["face"],
                });
                results.push(region(parent.clone(), "rectanglelabels", value));
            }
            for (k, (name, p)) in labels.schema.keypoints.iter().zip(&face.points).enumerate() {
                if p.iter().all(|v| v.is_finite()) {
                    let value = json!({ "x": share(p[0], *width), "y": share(p[1], *height), "width": 0.5, "keypointlabels": [name] });
                    let mut region = region(format!("face{i}point{k}"), "keypointlabels", value);
                    region["parentID"] = parent.clone().into();
                    results.push(region);
                }
            }
        }
        tasks.push(json!({ "id": id + 1, "data": { "img": picture.name }, "annotations": [{ "result": results }] }));
    }
    serde_json::to_string_pretty(&tasks).map_err(|e| Error::Data(format!("Label Studio: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short export, and an old one without sizes, give the same labels as the full one.
    #[test]
    fn the_short_export_is_read_where_a_picture_has_one_face() {
        let dir = tempfile::tempdir().unwrap();
        image::GrayImage::new(200, 100).save(dir.path().join("a.png")).unwrap();
        let read = |text: &str| read(&dir.path().join("a.json"), text, &Options::default());
        let full = r#"[{"id": 7, "data": {"img": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": [
            {"id": "x", "type": "keypointlabels", "value": {"x": 10, "y": 20, "width": 0.5, "keypointlabels": ["nose"]}},
            {"id": "y", "type": "keypointlabels", "original_width": 200, "original_height": 100, "image_rotation": 0,
             "value": {"x": 50, "y": 60, "width": 0.5, "keypointlabels": ["chin"]}}]}]}]"#;
        let short = r#"[{"img": "/data/upload/1/0a1b2c3d-a.png", "id": 7, "annotator": 1, "annotation_id": 3,
            "created_at": "2024-01-01T00:00:00Z", "lead_time": 4.2, "kp": [
            {"x": 10, "y": 20, "width": 0.5, "keypointlabels": ["nose"], "original_width": 200, "original_height": 100},
            {"x": 50, "y": 60, "width": 0.5, "keypointlabels": ["chin"], "original_width": 200, "original_height": 100}]}]"#;
        let task = |text: &str| serde_json::from_str::<Vec<Value>>(text).unwrap().remove(0);
        assert!(is_min(&task(short)) && !is_min(&task(full)));
        let (full, min) = (read(full).unwrap(), read(short).unwrap());
        assert_eq!(full.pictures[0].faces[0].points, [[19.5, 19.5], [99.5, 59.5]]);
        assert_eq!(full, min);
        let two = read(&short.replace("chin", "nose")).unwrap_err().to_string();
        assert!(
            two.contains("a.json: task 7: expected points in boxes ('parentID', which JSON-MIN leaves out)"),
            "{two}"
        );
        let empty = short_of_two(r#"{"result": []}"#);
        assert_eq!(read(&empty).unwrap().pictures[0].faces.len(), 1);
        let turned = short.replace("\"width\": 0.5", "\"width\": 0.5, \"image_rotation\": 90");
        assert!(read(&turned).unwrap_err().to_string().contains("image_rotation: expected 0, found 90"));
    }

    /// A task of two annotations, the first of them this one.
    fn short_of_two(first: &str) -> String {
        let point =
            r#"{"original_width": 9, "original_height": 9, "value": {"x": 1, "y": 2, "keypointlabels": ["nose"]}}"#;
        format!(r#"[{{"data": {{"img": "a.png"}}, "annotations": [{first}, {{"result": [{point}]}}]}}]"#)
    }

    #[test]
    fn addresses_of_tasks_become_paths() {
        assert_eq!(name_of("/data/local-files/?d=photos/a%20b.jpg"), "photos/a b.jpg");
        assert_eq!(name_of("/data/upload/1/0a1b2c3d-a.jpg"), "data/upload/1/0a1b2c3d-a.jpg");
        assert_eq!(unprefixed("data/upload/1/0a1b2c3d-a-b.jpg"), "a-b.jpg");
        assert_eq!(unprefixed("x/summer-a.jpg"), "summer-a.jpg");
        assert_eq!(name_of("https://example.org/p/a.jpg?x=1%2"), "https:/example.org/p/a.jpg".replace(":/", "://"));
    }
}
