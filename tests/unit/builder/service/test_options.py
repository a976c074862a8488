"""What outputs may be asked for, and what a request may ask."""

import pytest
from boxship.types.build_request import BuildLimits, BuildOutput, BuildRequest, BuildUlimit
from boxshipd.api.build_parameters import classic_request
from boxshipd.api.query import Query
from boxshipd.builder.exporters.options import parse
from boxshipd.builder.request import check
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.images.model import Platform


def test_an_image_gets_the_request_s_names_and_its_own_each_once():
    output = parse(BuildOutput(attrs={"name": "b:1,a", "push": ""}), ("a:latest", "example.com/c"))
    assert [name.familiar for name in output.names] == ["a:latest", "example.com/c:latest", "b:1"]
    assert output.push
    assert output.oci


def test_a_docker_archive_has_docker_s_types_unless_told():
    assert not parse(BuildOutput(type="docker"), ()).oci
    assert parse(BuildOutput(type="docker", attrs={"oci-mediatypes": "true"}), ()).oci


def test_annotations_are_of_a_manifest_an_index_or_their_descriptors():
    attrs = {
        "annotation.a.b": "1",
        "annotation-manifest[linux/arm64].a.b": "arm",
        "annotation-manifest-descriptor.d": "3",
        "annotation-manifest-descriptor[linux/amd64/v1].e": "4",
        "annotation-index.c": "2",
        "annotation-index-descriptor.f": "5",
    }
    annotations = parse(BuildOutput(attrs=attrs), ()).annotations
    arm, amd = Platform("arm64", "linux", "v8"), Platform("amd64", "linux")
    assert (annotations.manifest(arm), annotations.manifest(amd)) == ({"a.b": "arm"}, {"a.b": "1"})
    assert (annotations.descriptor(arm), annotations.descriptor(amd)) == ({"d": "3"}, {"d": "3", "e": "4"})
    assert (annotations.index, annotations.index_descriptor) == ({"c": "2"}, {"f": "5"})
    annotations.check([arm, amd])
    with pytest.raises(InvalidParameter, match="no platform linux/arm64 found in source"):
        annotations.check([amd])


def test_only_annotations_that_docker_s_documents_have_no_room_for_want_others():
    assert not parse(BuildOutput(attrs={"annotation.a": "1"}), ()).annotations.want_oci
    assert parse(BuildOutput(attrs={"annotation-manifest-descriptor.a": "1"}), ()).annotations.want_oci


@pytest.mark.parametrize(
    ("kind", "attrs", "error", "words"),
    [
        ("gha", {}, NotImplementedHere, "output type 'gha'"),
        ("image", {"compression": "estargz"}, NotImplementedHere, "estargz"),
        ("image", {"danglin-name-prefix": "x"}, NotImplementedHere, "danglin-name-prefix"),
        ("image", {"unpack": "false"}, NotImplementedHere, "unpack=false"),
        ("image", {"push": "true"}, InvalidParameter, "needs a name"),
        ("image", {"push": "perhaps"}, InvalidParameter, "perhaps"),
        ("image", {"name": "UPPER"}, InvalidParameter, "lowercase"),
        ("image", {"name": f"a@sha256:{'0' * 64}"}, InvalidParameter, "digest"),
        ("image", {"compression": "zstd", "compression-level": "23"}, InvalidParameter, "from 0 to 22"),
        ("image", {"compression-level": "fast"}, InvalidParameter, "fast"),
        ("image", {"annotation-layer.x": "y"}, InvalidParameter, "unrecognized annotation type 'layer'"),
        ("image", {"annotation[linux/amd64]x": "y"}, InvalidParameter, "invalid annotation"),
        ("image", {"annotation[a/b/c/d].x": "y"}, InvalidParameter, "a/b/c/d"),
        ("local", {"annotation.x": "y"}, NotImplementedHere, "annotation.x"),
        ("oci", {"push": "true", "name": "a"}, InvalidParameter, "can't be pushed"),
        ("oci", {"tar": "false"}, NotImplementedHere, "tar=false"),
        ("local", {"compression": "gzip"}, NotImplementedHere, "compression"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(kind, attrs, error, words):
    with pytest.raises(error, match=words):
        parse(BuildOutput(type=kind, attrs=attrs), ())


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (BuildRequest(sbom=True), NotImplementedHere, "sbom"),
        (BuildRequest(extra_hosts=("bogus",)), InvalidParameter, 'bad format for add-host: "bogus"'),
        (BuildRequest(allow=("device",)), NotImplementedHere, "device"),
        (BuildRequest(shm_size=-1), InvalidParameter, "SHM size"),
        (BuildRequest(limits=BuildLimits(memory=1)), InvalidParameter, "Minimum memory limit"),
        (BuildRequest(limits=BuildLimits(cpu_period=1)), InvalidParameter, "CPU cfs period"),
        (BuildRequest(ulimits=(BuildUlimit(name="files", soft=1, hard=1),)), InvalidParameter, "invalid ulimit type"),
        (BuildRequest(platforms=("a/b/c/d",)), InvalidParameter, "a/b/c/d"),
        (BuildRequest(build_args={"SOURCE_DATE_EPOCH": "yesterday"}), InvalidParameter, "SOURCE_DATE_EPOCH"),
    ],
)
def test_a_request_that_cannot_be_is_refused_before_anything_is_done(request_, error, words):
    with pytest.raises(error, match=words):
        check(request_)


def test_the_host_s_network_for_all_commands_allows_itself():
    assert "network.host" in check(BuildRequest(network="host")).entitlements
    assert not check(BuildRequest(network="none")).entitlements


def test_the_epoch_of_the_request_counts_before_the_argument():
    args = {"SOURCE_DATE_EPOCH": "5"}
    assert check(BuildRequest(build_args=args)).epoch == 5
    assert check(BuildRequest(build_args=args, epoch=7)).epoch == 7
    assert check(BuildRequest(build_args={"SOURCE_DATE_EPOCH": None})).epoch is None


def test_every_classic_parameter_arrives():
    query = Query(
        "dockerfile=a/D&t=x&t=y:2&extrahosts=h:1.2.3.4&extrahosts=g:host-gateway&remote=&q=1&nocache=true&pull=1&rm=1&forcerm=0"
        "&cachefrom=%5B%22img%22%5D&memory=7340032&memswap=-1&cpushares=3&cpusetcpus=0&cpuperiod=2000&cpuquota=3000"
        "&buildargs=%7B%22A%22%3A%22b%22%2C%22C%22%3Anull%7D&shmsize=1000&squash=1&labels=%7B%22l%22%3A%22v%22%7D"
        "&networkmode=none&platform=linux%2Famd64&target=t&ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Soft%22%3A1%2C%22Hard%22"
        "%3A2%7D%5D&cgroupparent=/p&buildid=b&outputs=%5B%7B%22Type%22%3A%22moby%22%2C%22Attrs%22%3A%7B%22push%22%3A%220%22%7D%7D%5D"
    )
    request = classic_request(query)
    assert (request.dockerfile, request.tags, request.target, request.build_id) == ("a/D", ("x", "y:2"), "t", "b")
    assert request.extra_hosts == ("h:1.2.3.4", "g:host-gateway")
    assert request.build_args == {"A": "b", "C": None}
    assert request.labels == {"l": "v"}
    assert [option.attrs for option in request.cache_from] == [{"ref": "img"}]
    assert request.outputs == (BuildOutput(type="image", attrs={"push": "0"}),)
    assert request.limits == BuildLimits(
        memory=7340032, memory_swap=-1, cpu_shares=3, cpu_period=2000, cpu_quota=3000, cpuset_cpus="0"
    )
    assert (request.no_cache, request.pull, request.squash, request.quiet, request.shm_size) == (True, True, True, True, 1000)
    assert (request.platforms, request.network, request.cgroup_parent) == (("linux/amd64",), "none", "/p")
    assert check(request).ulimits == ("nofile=1:2",)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("buildargs=xx", "error reading build args"),
        ("labels=%5B%5D", "error reading labels"),
        ("ulimits=xx", "error reading ulimit settings"),
        ("cachefrom=xx", "error reading cache sources"),
        ("outputs=xx", "error reading outputs"),
        ("isolation=hyperv", 'Unsupported isolation: "hyperv"'),
        ("securityopt=%5B%22x%22%5D", "does not support setting security options"),
        ("shmsize=-1", "SHM size can not be less than 0"),
    ],
)
def test_classic_parameters_that_cannot_be_are_refused_in_docker_s_words(query, words):
    with pytest.raises(InvalidParameter, match=words):
        classic_request(Query(query))


def test_a_classic_client_is_given_images_only():
    with pytest.raises(NotImplementedHere, match="'local'"):
        classic_request(Query("outputs=%5B%7B%22Type%22%3A%22local%22%7D%5D"))
