"""Demo tiles: reproducible, well formed, and hard for the reasons that real ones are hard."""

import doctest

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from glavitu import ice, regions, sensors, synthetic, terrain
from glavitu.regions import REGIONS, UNSEEN
from glavitu.surfaces import SKY, SURFACES
from glavitu.synthetic import make_tile

DEBRIS, CLEAN, ROCK = (SURFACES[name] for name in ("debris-covered ice", "clean ice", "rock"))


@pytest.fixture(scope="module")
def tiles():
    """Two tiles of each region, by name."""
    made = (make_tile(region, index, size=96) for region in REGIONS for index in (0, 1))
    return {tile.attrs["tile"]: tile for tile in made}


def pool(tiles, source, band, *surfaces):
    """Values of one band on the given surfaces, under a clear sky, from all tiles."""
    return np.concatenate(
        [
            tile[source]
            .sel({f"{source}_band": band})
            .values[tile.surface.isin(surfaces) & (tile.sky == SKY["clear"])]
            for tile in tiles.values()
        ]
    )


def test_same_arguments_give_the_same_tile():
    xr.testing.assert_identical(make_tile("ALP", 2, size=64), make_tile("ALP", 2, size=64))


def test_region_may_be_given_by_name_or_as_an_object():
    xr.testing.assert_identical(make_tile("NZ", 0, size=32), make_tile(REGIONS["NZ"], 0, size=32))


@pytest.mark.parametrize("other", [("ALP", 1, 0), ("ALP", 0, 1), ("CA", 0, 0)])
def test_index_seed_and_region_each_give_another_tile(other):
    region, index, seed = other
    tile, changed = make_tile("ALP", 0, size=32), make_tile(region, index, size=32, seed=seed)
    for name in ("optical", "dem", "sar"):
        assert not np.array_equal(tile[name], changed[name])


def test_all_regions_of_the_paper_are_there():
    assert list(REGIONS) == ["ALP", "AN", "AWA", "CA", "GR", "HMA", "LL", "NZ", "SA", "SC", "SVAL"]
    assert all(name == region.name for name, region in REGIONS.items())
    assert set(UNSEEN) < set(REGIONS)


def test_nothing_grows_in_antarctica():
    assert not any(
        (make_tile("AN", index, size=96).surface == SURFACES["vegetation"]).any()
        for index in range(4)
    )


def test_outlines_err_by_about_the_metres_asked_for_and_nothing_else_does():
    shares = {}
    for error in (0, 30, 60):
        exact, tile = (make_tile("SC", 3, size=192, outline_error=e) for e in (0, error))
        xr.testing.assert_identical(tile.drop_vars("groundtruth"), exact.drop_vars("groundtruth"))
        length = (ndimage.maximum_filter(exact.groundtruth, 3) != exact.groundtruth).sum()
        shares[error] = float((tile.groundtruth != exact.groundtruth).sum() / length)
    # An outline displaced by 1 pixel (30 m) of standard deviation sweeps sqrt(2 / pi) = 0.8 pixels
    # per pixel of its length on average; corners and slanting stretches make it less than twice.
    assert shares[0] == 0
    assert 0.4 < shares[30] < 1.6
    assert 1.4 < shares[60] / shares[30] < 2.6


def test_outlines_cannot_err_by_less_than_nothing():
    with pytest.raises(ValueError, match="outline_error is -1 m, expected 0 or more"):
        make_tile("ALP", 0, size=32, outline_error=-1)


def test_shapes_types_and_bands(tiles):
    for tile in tiles.values():
        assert tile.optical.shape == (96, 96, 6)
        assert tile.dem.shape == tile.sar.shape == (96, 96, 2)
        assert tile.groundtruth.shape == tile.surface.shape == tile.sky.shape == (96, 96)
        assert {tile[name].dtype.name for name in ("optical", "dem", "sar")} == {"float32"}
        assert {tile[name].dtype.name for name in ("groundtruth", "surface", "sky")} == {"uint8"}
        assert list(tile.optical_band.values) == ["blue", "green", "red", "NIR", "SWIR1", "SWIR2"]


def test_values_are_in_their_units(tiles):
    for tile in tiles.values():
        assert all(np.isfinite(tile[name]).all() for name in ("optical", "dem", "sar"))
        assert tile.optical.min() >= 0 and tile.optical.max() <= 1.6
        elevation, slope = tile.dem.values[..., 0], tile.dem.values[..., 1]
        assert elevation.min() > -20 and elevation.max() < 8900
        assert slope.min() >= 0 and slope.max() < 90
        backscatter, coherence = tile.sar.values[..., 0], tile.sar.values[..., 1]
        assert backscatter.min() > -60 and backscatter.max() < 20
        assert coherence.min() >= 0 and coherence.max() <= 1


def test_slope_band_is_the_slope_of_the_elevation_band(tiles):
    dem = tiles["HMA1-0000"].dem.values.astype(float)
    slope = np.degrees(np.arctan(terrain.tangent_of_slope(dem[..., 0], 30)))
    np.testing.assert_allclose(dem[..., 1], slope, atol=0.01)


def test_transform_agrees_with_coordinates():
    tile = make_tile("LL", 21, size=32, resolution=20)
    a, b, c, d, e, f = tile.attrs["transform"]
    assert (a, b, d, e) == (20, 0, 0, -20)
    # The centre of the first pixel lies half a pixel from the corner.
    assert (tile.x[0], tile.y[0]) == (c + 10, f - 10)
    np.testing.assert_allclose(np.diff(tile.x), 20)
    np.testing.assert_allclose(np.diff(tile.y), -20)
    # Twenty tiles to a row: the 22nd lies one tile right of and below the region's corner.
    assert (c, f) == (REGIONS["LL"].easting + 640, REGIONS["LL"].northing - 640)


def test_tile_is_named_after_its_region(tiles):
    for name, tile in tiles.items():
        letters = "".join(filter(str.isalpha, name.partition("-")[0]))
        assert letters == tile.attrs["region"]
        assert tile.attrs["epsg"] == REGIONS[letters].epsg


def test_groundtruth_is_clean_and_debris_covered_ice(tiles):
    for tile in tiles.values():
        np.testing.assert_array_equal(tile.groundtruth, tile.surface.isin([CLEAN, DEBRIS]))
        assert set(np.unique(tile.surface)) <= set(SURFACES.values())


def test_every_tile_has_ice_and_other_ground(tiles):
    shares = [float(tile.groundtruth.mean()) for tile in tiles.values()]
    assert min(shares) > 0.02 and max(shares) < 0.9
    assert 0.1 < np.mean(shares) < 0.45


def test_debris_looks_like_rock_but_decorrelates(tiles):
    for band in sensors.BANDS["optical"]:
        rock, ice = (pool(tiles, "optical", band, code).mean() for code in (ROCK, CLEAN))
        debris = pool(tiles, "optical", band, DEBRIS).mean()
        assert abs(debris - rock) < 0.35 * abs(ice - rock)
    rock, debris = (pool(tiles, "sar", "coherence", code).mean() for code in (ROCK, DEBRIS))
    assert debris < rock - 0.2


def wedge(*, facing, falling):
    """Ground that rises from the west with the slope `facing` and falls with `falling` degrees."""
    rise, fall = np.tan(np.radians([facing, falling])) * 30
    profile = np.minimum(
        100 + rise * np.arange(60.0), 100 + rise * 30 - fall * np.arange(-30.0, 30)
    )
    return np.tile(np.maximum(profile, 100), (60, 1))


def observe(elevation):
    """Mean backscatter and coherence of the western and the eastern slope of rock."""
    flat = np.zeros(elevation.shape)
    ground = sensors.Ground(elevation, flat > 1, flat, flat, flat, flat)
    rng = np.random.default_rng(0)
    sar = sensors.observe_sar(ground, flat.astype(int), rng, 30)
    return [sar[5:-5, columns].mean(axis=(0, 1)) for columns in (slice(8, 24), slice(33, 40))]


def test_radar_foreshortens_slopes_that_face_it_and_dims_those_behind():
    (front, front_coherence), (back, back_coherence) = observe(wedge(facing=25, falling=25))
    assert front > sensors.BACKSCATTER[ROCK] + 2 and back < sensors.BACKSCATTER[ROCK] - 2
    assert min(front_coherence, back_coherence) > 0.6


def test_layover_is_bright_and_incoherent():
    # The radar looks in from the west at 39 degrees from the vertical; 50 is steeper.
    (front, coherence), _ = observe(wedge(facing=50, falling=20))
    assert front > sensors.BACKSCATTER[ROCK] + 5
    assert coherence < 0.45 * sensors.COHERENCE[ROCK]


def test_radar_shadow_is_noise():
    # A slope of more than the radar's 51 degrees above the horizon, turned away from it.
    _, (back, coherence) = observe(wedge(facing=30, falling=65))
    # Five looks: the mean of the logarithm lies 0.45 dB below the logarithm of the mean.
    assert abs(back - (sensors.NOISE_FLOOR - 0.45)) < 0.5
    assert 0.1 < coherence < 0.2


def test_layover_and_radar_shadow_are_the_exception(tiles):
    dark = bright = 0
    for tile in tiles.values():
        backscatter = tile.sar.values[..., 0]
        dark, bright = dark + (backscatter < -22).mean(), bright + (backscatter > -2).mean()
    assert 0.001 < dark / len(tiles) < 0.06
    assert 0.001 < bright / len(tiles) < 0.06


def test_debris_lies_on_gentler_ground_than_rock(tiles):
    rock, debris = (np.median(pool(tiles, "dem", "slope", code)) for code in (ROCK, DEBRIS))
    assert debris < rock - 3


def test_ice_is_smoother_than_rock(tiles):
    def roughness(code):
        return np.median(
            np.concatenate(
                [
                    np.abs(np.diff(tile.dem.values[..., 0], 2, axis=0))[tile.surface[1:-1] == code]
                    for tile in tiles.values()
                ]
            )
        )

    assert roughness(CLEAN) < 0.8 * roughness(ROCK)


def test_tongues_reach_below_the_equilibrium_line_and_peaks_above_it_are_bare(tiles):
    below = bare = 0
    for tile in tiles.values():
        high = tile.dem[..., 0] > REGIONS[tile.attrs["region"]].ela
        below += int((~high & (tile.groundtruth == 1)).sum()) / tile.groundtruth.size
        bare += int((high & (tile.groundtruth == 0)).sum()) / tile.groundtruth.size
    assert below > 0.05 * len(tiles)
    assert bare > 0.01 * len(tiles)


def test_ndsi_threshold_is_a_fair_but_imperfect_map(tiles):
    hits = union = 0
    for tile in tiles.values():
        green, swir = tile.optical.sel(optical_band="green"), tile.optical.sel(optical_band="SWIR1")
        bright, ice = (green - swir) / (green + swir) > 0.4, tile.groundtruth == 1
        hits, union = hits + int((bright & ice).sum()), union + int((bright | ice).sum())
    assert 0.45 < hits / union < 0.8


def test_debris_share_follows_the_region():
    def share(region):
        made = [make_tile(region, index, size=96).surface for index in range(4)]
        return sum(int((s == DEBRIS).sum()) for s in made) / sum(
            int(s.isin([CLEAN, DEBRIS]).sum()) for s in made
        )

    assert share("HMA") > 3 * share("SC")


def test_filled_terrain_drains():
    rng = np.random.default_rng(0)
    outlet = np.zeros((20, 20), bool)
    outlet[0] = True
    filled = terrain.fill_depressions(rng.uniform(0, 9, (20, 20)), outlet)
    lowest = np.min([np.roll(filled, step, axis) for step in (-1, 1) for axis in (0, 1)], axis=0)
    diagonal = np.min([np.roll(filled, (r, c), (0, 1)) for r in (-1, 1) for c in (-1, 1)], axis=0)
    assert (np.minimum(lowest, diagonal) < filled)[1:-1, 1:-1].all()


def test_upstream_area_counts_every_cell_once():
    # 0 -> 1 -> 2 -> outside (4), and 3 -> 2: cell 2 drains 0, 1, 3 and itself.
    area = terrain._upstream_area(np.array([1, 2, 4, 2, 4]))
    np.testing.assert_array_equal(area, [1, 2, 4, 1, 0])


def test_sum_downstream_follows_the_path():
    # The same paths: from 0 over 1 to 2 it is 1 + 2 + 4; from 3 to 2 it is 8 + 4.
    total = terrain._sum_downstream(np.array([1, 2, 4, 2, 4]), np.array([1, 2, 4, 8, 0]))
    np.testing.assert_array_equal(total, [7, 6, 4, 12, 0])


def test_wall_casts_its_shadow_away_from_the_sun():
    elevation = np.zeros((5, 11))
    elevation[:, 5] = 60
    ceiling = terrain.shadow_ceiling(elevation, 30, azimuth=90, altitude=45)
    # Sun in the east at 45 degrees: a 60 m wall shades 60 m, the two cells west of it, not beyond.
    np.testing.assert_allclose(ceiling[2, 3:5], [0, 30], atol=1e-6)
    assert (ceiling[2, 6:] <= 0).all()


def test_slope_towards_is_positive_where_the_ground_faces():
    # 30 m up per 30 m eastwards: it faces west, and falls away as seen from the east.
    ramp = np.outer(np.ones(4), [0.0, 30, 60, 90])
    np.testing.assert_allclose(terrain.slope_towards(ramp, 30, azimuth=270), 1)
    np.testing.assert_allclose(terrain.slope_towards(ramp, 30, azimuth=90), -1)
    np.testing.assert_allclose(terrain.slope_towards(ramp, 30, azimuth=0), 0, atol=1e-12)


def test_unknown_region_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'XX' is not known; choose from ALP, AN"):
        make_tile("XX", 0, size=32)


def test_too_small_a_tile_is_refused():
    with pytest.raises(ValueError, match="size is 8 pixels, expected at least 16"):
        make_tile("ALP", 0, size=8)


@pytest.mark.parametrize("module", [terrain, ice, regions, sensors, synthetic])
def test_examples_run(module):
    assert doctest.testmod(module).failed == 0
