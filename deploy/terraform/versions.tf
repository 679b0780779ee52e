terraform {
  required_version = ">= 1.9"

  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = "1.68.0"
    }
  }

  # The state has addresses and keys of this machine, no secret of orderup's. Keep it where your colleagues find it:
  #
  # backend "s3" { ... }
}

# It takes its token from the variable HCLOUD_TOKEN, so that none stands in a file.
provider "hcloud" {}
