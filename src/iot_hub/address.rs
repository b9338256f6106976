//! Where the twin of a device or module is in the IoT hub's service API.

use url::Url;

use crate::domain::id::DeviceId;

/// The path of a twin, or of something below it. It names the device and nothing else, whatever its id holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    segments: Vec<String>,
}

impl Address {
    /// `/twins/{deviceId}`, or `/twins/{deviceId}/modules/{moduleId}`. `None` for names that a path cannot carry as
    /// segments; no hub accepts them as the id of a device.
    pub(super) fn of_twin(device: &DeviceId) -> Option<Self> {
        let mut segments = vec!["twins".to_owned(), segment(device.as_str())?];
        if let Some(module) = device.module() {
            segments.push("modules".to_owned());
            segments.push(segment(module)?);
        }
        Some(Self { segments })
    }

    /// `…/methods`, where direct methods are called.
    pub(super) fn methods(mut self) -> Self {
        self.segments.push("methods".to_owned());
        self
    }

    /// Extends the address of the service, which has no path of its own.
    pub(super) fn append_to(&self, base: &mut Url) {
        base.path_segments_mut()
            .expect("an http URL has a path")
            .clear()
            .extend(&self.segments);
    }
}

fn segment(name: &str) -> Option<String> {
    // A URL takes these for steps in its path, encoded or not, and drops tabs and line ends.
    let dots = name == "." || name == "..";
    (!dots && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(device: &str, module: Option<&str>) -> Option<Address> {
        let id = match module {
            None => DeviceId::new(device),
            Some(module) => DeviceId::of_module(device, module),
        };
        Address::of_twin(&id.unwrap())
    }

    fn path(device: &str, module: Option<&str>) -> String {
        let mut url = Url::parse("https://hub.example.net:8443/").unwrap();
        let address = address(device, module).unwrap();
        address.methods().append_to(&mut url);
        assert_eq!(
            url.origin().ascii_serialization(),
            "https://hub.example.net:8443"
        );
        assert_eq!((url.query(), url.fragment()), (None, None));
        url.path().to_owned()
    }

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        for (device, segment) in [
            ("press-01", "press-01"),
            ("a b/c", "a%20b%2Fc"),
            ("x?y#z", "x%3Fy%23z"),
            ("%2e%2e", "%252e%252e"),
            ("..%2f", "..%252f"),
            ("a\\b", "a%5Cb"),
            ("é", "%C3%A9"),
            (" d ", "%20d%20"),
        ] {
            assert_eq!(path(device, None), format!("/twins/{segment}/methods"));
            assert_eq!(
                path("d", Some(device)),
                format!("/twins/d/modules/{segment}/methods")
            );
        }
    }

    #[test]
    fn names_that_a_path_cannot_carry_have_no_address() {
        for name in [".", "..", "a\nb", "a\tb", "\u{7f}"] {
            assert_eq!(address(name, None), None, "{name:?}");
            assert_eq!(address("d", Some(name)), None, "{name:?}");
        }
    }
}
