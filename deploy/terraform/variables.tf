variable "domain" {
  description = "The name that customers know; staff is at staff.DOMAIN. Lead both to the addresses that come out."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9-]+)+$", var.domain))
    error_message = "Write a name such as cakes.example.com, without https:// and without a slash."
  }
}

variable "acme_email" {
  description = "Where Let's Encrypt writes to if a certificate is about to run out."
  type        = string
}

variable "orderup_image" {
  description = "The image, by its digest: ghcr.io/OWNER/orderup@sha256:... It can be pulled without signing in."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.orderup_image))
    error_message = "Name the image by its digest, so that what was tested is what runs."
  }
}

variable "ssh_public_key" {
  description = "The key of whoever administers the machine and deploys to it, as in ~/.ssh/id_ed25519.pub."
  type        = string
}

variable "admin_networks" {
  description = "From where SSH is let in. A deployment by GitHub comes from many addresses: then 0.0.0.0/0 and ::/0."
  type        = list(string)

  validation {
    condition     = length(var.admin_networks) > 0 && alltrue([for each in var.admin_networks : can(cidrhost(each, 0))])
    error_message = "Write networks such as 203.0.113.0/24 or 2001:db8::/64."
  }
}

variable "sandbox" {
  description = "Whether servers of our own stand in for third parties that are not set. Only for trying."
  type        = bool
  default     = false
}

variable "location" {
  description = "Where it stands: https://docs.hetzner.com/cloud/general/locations/"
  type        = string
  default     = "hel1"
}

variable "server_type" {
  description = "How large it is: https://docs.hetzner.com/cloud/servers/overview/"
  type        = string
  default     = "cx23"
}
