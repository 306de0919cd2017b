// A shared conversation stands in the address's fragment, which a form does not carry along.

if (location.hash) sessionStorage.setItem("aligner.fragment", location.hash);
